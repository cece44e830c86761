"""Detection of a file's format and of its character encoding."""
