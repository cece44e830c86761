"""Limits on requests: slots, connections, rates, and traffic while the process drains."""
