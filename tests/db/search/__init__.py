"""Tests of the statements of search."""
