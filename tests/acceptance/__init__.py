"""What the issues promise, as a user meets it."""
