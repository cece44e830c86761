"""Reads Content-Type headers: the media type and its charset."""

from __future__ import annotations

from email.message import Message


def bare_type(content_type: str) -> str:
    """Return the media type of a Content-Type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def charset_parameter(content_type: str) -> str | None:
    """Return the charset parameter of a Content-Type header, or None."""
    message = Message()
    message["Content-Type"] = content_type
    return message.get_content_charset()
