"""Pairs of a source and a claim with the verdict of careful readers, in six languages."""
