"""Benchmarks of uploads, against the same bytes sent directly to the store."""
