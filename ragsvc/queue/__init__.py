"""Redis as doorbell, buffer and projection: it may be emptied at any time."""
