"""Benchmarks of ingestion: speed and memory."""
