"""Benchmarks behind the documented figures; each run also measures the systems that they are compared with."""
