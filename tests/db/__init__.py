"""Tests of the SQL floor."""
