"""Postgres connections: the pool, session scopes and roles."""
