"""Uppy itself, from npm, against the API and the store."""
