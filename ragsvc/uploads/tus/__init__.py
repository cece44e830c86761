"""Appends of the tus protocol: offsets, parts and tails, and the write lease of an upload."""
