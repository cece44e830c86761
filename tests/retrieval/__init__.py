"""Tests of search, on a real database."""
