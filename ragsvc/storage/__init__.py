"""The object store: all calls to S3, through clients shared by the whole process."""
