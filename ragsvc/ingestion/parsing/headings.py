"""Headings as every format hands them on."""

from __future__ import annotations

from ragsvc.domain.chunks import Heading

MAX_LEVEL = 6
# A title is repeated in the path of every chunk below it.
MAX_TITLE_CHARS = 200


def make_heading(level: int, title: str, char_start: int) -> Heading | None:
    """Return the heading with its title on one line and its level between 1 and 6; None without a title."""
    words = " ".join(title.split())
    if not words:
        return None
    if len(words) > MAX_TITLE_CHARS:
        words = words[: MAX_TITLE_CHARS - 1].rstrip() + "…"
    return Heading(level=min(max(level, 1), MAX_LEVEL), title=words, char_start=char_start)
