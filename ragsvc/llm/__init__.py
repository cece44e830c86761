"""The one way to models: an OpenAI-compatible server, for embeddings and for answers."""
