"""Fixtures for tests of search: documents, a scripted model, and processes that answer questions."""

from tests.support.chat import chat, library, scripted

__all__ = ["chat", "library", "scripted"]
