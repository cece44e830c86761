"""The groups of settings; a field's name in upper case is its environment variable."""
