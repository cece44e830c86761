"""Builders of documents, chunks and deletions."""
