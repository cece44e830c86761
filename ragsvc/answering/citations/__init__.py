"""Citations: found in the answer's text, and checked against their sources."""
