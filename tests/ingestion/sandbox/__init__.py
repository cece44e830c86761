"""Tests of the parsing sandbox."""
