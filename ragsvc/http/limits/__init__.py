"""What limits requests: slots, connections, rates, and traffic while draining."""
