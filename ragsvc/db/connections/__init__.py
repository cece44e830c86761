"""Connections: the pool, session scopes, roles and migrations."""
