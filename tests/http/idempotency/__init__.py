"""Tests of requests with an Idempotency-Key."""
