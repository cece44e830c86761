"""Calls to OpenAI-compatible servers for embeddings and chat, and to rerankers."""
