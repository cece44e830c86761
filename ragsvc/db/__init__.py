"""The SQL statements, one module per table; also connections, search and migrations."""
