"""Tests of the native API."""
