"""The object store: every call to S3, through one client for the life of the process."""
