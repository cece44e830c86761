"""Helpers of the tests of the API."""
