"""Endpoints for operators and tools: health, metrics, and the API description."""
