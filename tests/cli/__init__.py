"""The command line, run against the real service."""
