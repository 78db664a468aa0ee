"""The Lambda handlers. Standard library, boto3 and ``stockpipe.domain`` only: this is the zip."""
