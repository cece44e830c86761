"""Parsers, one module per document format."""
