"""The evaluation of retrieval: `make eval` measures how often search finds the known answers to questions."""
