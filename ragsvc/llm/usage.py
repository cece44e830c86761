"""Reads token counts from responses of model servers."""

from __future__ import annotations

# More than any call uses. Larger values are errors of the server, and could overflow database columns.
MAX_TOKENS = 10**9


def read_tokens(value: object) -> int | None:
    """Return a token count as the server sent it; None if it is absent or implausible."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MAX_TOKENS else None
