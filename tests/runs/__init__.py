"""Tests of runs: durable, resumable answers."""
