"""Tenants: workspaces, their API keys and their collections."""
