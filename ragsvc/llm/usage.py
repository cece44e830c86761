"""What a server tells of a call's cost."""

from __future__ import annotations

# More than any call costs; what is beyond is a server's mistake, and no store would take it.
MOST_TOKENS = 10**9


def read_tokens(value: object) -> int | None:
    """Return a number of tokens as a server told it; None where it told none, or what cannot be one."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_TOKENS else None
