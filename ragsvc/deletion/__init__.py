"""Removing things so that it can be proven."""
