"""Tests for detection, decoding and parsing."""
