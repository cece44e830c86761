"""The command line: starts the processes, operates them, and speaks to the API; it wires and owns no logic."""
