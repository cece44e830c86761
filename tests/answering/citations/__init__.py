"""Tests of citations and their check."""
