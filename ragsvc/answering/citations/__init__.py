"""Citations: parsed from the text of an answer, and checked against its sources."""
