"""Tests of the parts of the dev stack."""
