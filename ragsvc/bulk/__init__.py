"""Bulk operations, which delete or re-ingest many documents with one call."""
