"""Runs: answers that are streamed, stored and resumable."""
