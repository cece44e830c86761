"""The processes, servers and faults of the fault tests."""
