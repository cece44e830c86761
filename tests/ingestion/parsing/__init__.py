"""Tests of detection, decoding and parsing."""
