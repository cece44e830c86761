"""Tests of citations and their verification."""
