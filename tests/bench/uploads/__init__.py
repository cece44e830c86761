"""How fast uploads are, beside the same bytes sent straight to the store."""
