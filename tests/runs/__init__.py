"""Tests of durable, resumable answers."""
