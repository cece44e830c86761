"""Tests of the limits of the API."""
