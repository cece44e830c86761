"""Helpers for the API's tests."""
