"""Tests of the storage client."""
