"""The command line: starts the processes, operates them, and calls the API; it contains no business logic."""
