"""Tests of the store's client."""
