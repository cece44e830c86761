"""Faults that must leave nothing lost and nothing doubled."""
