"""Detection: which format a file has, and how its bytes become text."""
