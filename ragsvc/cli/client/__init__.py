"""The HTTP client of the command line: requests, uploads, event streams."""
