"""From a file's bytes to canonical text with its anchors; runs in a child process alone."""
