"""Parsing: turns a file's bytes into canonical text with anchors. Runs only in a child process."""
