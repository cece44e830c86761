"""Benchmarks of search: latency, and recall against an exact scan."""
