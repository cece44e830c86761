"""Tests of the dev stack's model server."""
