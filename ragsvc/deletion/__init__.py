"""Verified deletion of documents, collections and workspaces."""
