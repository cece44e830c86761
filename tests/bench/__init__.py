"""Benchmarks behind the documented figures; each run also measures the systems that ours is compared with."""
