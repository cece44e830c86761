"""Redis as notifier, buffer and projection: it can be emptied at any time without losing data."""
