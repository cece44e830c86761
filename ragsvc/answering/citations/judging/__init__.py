"""Judges whether a sentence of a source states what a claim says, by words, order and markers, in six languages."""
