"""Athena over the archive: Athena's dialect in, DuckDB underneath, and no way to the host's files.

A statement is judged (``judge``), translated (``translate``, ``answers``), given the objects that
it needs (``data``) and run behind a locked door (``engine``). ``emulated`` is what ministack calls.
"""
