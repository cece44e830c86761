"""Fixtures of a chat: documents, a scripted model, and processes that answer."""

from tests.support.chat import chat, library, scripted

__all__ = ["chat", "library", "scripted"]
