"""Ingestion: turns a stored file into a searchable document."""
