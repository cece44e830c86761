"""Answers to questions: condensing, prompts, sources, streamed text and citations."""
