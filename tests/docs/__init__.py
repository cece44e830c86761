"""The documentation: complete, generated pages up to date, links valid, commands that work as written."""
