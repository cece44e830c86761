"""Tests of the Companion endpoint."""
