"""Chunking: sections, token-bounded pieces, and the context that a chunk is embedded with."""
