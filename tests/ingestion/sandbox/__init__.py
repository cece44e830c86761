"""Tests for the parsing sandbox."""
