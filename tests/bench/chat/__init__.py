"""Benchmarks of chat: first words, a thousand streams, events per second."""
