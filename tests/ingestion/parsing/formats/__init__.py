"""Tests of each document format."""
