"""Conversations: sessions, messages, runs, citations and the redaction of deleted words."""
