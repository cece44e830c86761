"""Helpers that tests share: servers, documents, builds and waiting."""
