"""How fast search is, and how much of what an exact scan finds it finds."""
