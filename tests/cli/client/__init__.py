"""Tests of the command line's HTTP client."""
