"""Tests of search with a real database."""
