"""The dev stack's model server: MiniLM embeddings and the extractive answerer."""
