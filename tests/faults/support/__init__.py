"""Processes, servers and faults for the fault tests."""
