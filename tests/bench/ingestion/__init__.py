"""How fast documents are ingested, and in how much memory."""
