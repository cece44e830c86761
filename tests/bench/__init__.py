"""Benchmarks behind each documented speed, measured side by side with peers in one run."""
