"""Tests for each document format."""
