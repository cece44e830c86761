"""All errors of the service and their codes."""
