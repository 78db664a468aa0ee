"""Named SQL over the archive: the catalog of ``sql/*.sql``, its parameters, the Athena runner."""
