"""Tests of the search statements."""
