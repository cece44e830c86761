"""Retrieval, answers and their citations: what a search finds, and what a chat run says about it."""
