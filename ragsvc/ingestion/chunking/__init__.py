"""Chunking: sections, pieces of bounded token count, and the context that a chunk is embedded with."""
