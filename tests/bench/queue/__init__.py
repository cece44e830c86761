"""Benchmarks of queues: ours, plain arq, and BullMQ if Node.js is installed."""
