"""Tests of the tus endpoint."""
