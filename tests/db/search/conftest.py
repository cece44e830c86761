"""Fixtures from tests/support/chat.py: a library, a scripted model and a chat client."""

from tests.support.chat import chat, library, scripted

__all__ = ["chat", "library", "scripted"]
