"""Search: filters, dense and lexical retrieval, reranking."""
