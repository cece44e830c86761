"""SQL, and nothing but SQL: a module per table, the pool and the migrations."""
