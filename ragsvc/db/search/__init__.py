"""The statements of search."""
