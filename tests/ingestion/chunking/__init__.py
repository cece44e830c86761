"""Tests for chunking."""
