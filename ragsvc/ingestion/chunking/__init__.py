"""Chunking: sections, pieces with a limited number of tokens, and the context that is embedded with each chunk."""
