"""Bulk operations: deletes or re-ingests many documents with one call."""
