"""SQL statements for search."""
