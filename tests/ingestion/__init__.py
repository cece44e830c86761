"""Tests for ingestion."""
