"""Headings, built the same way for every format."""

from __future__ import annotations

from ragsvc.domain.chunks import Heading

MAX_LEVEL = 6
# Titles are repeated in the heading path of every chunk under them.
MAX_TITLE_CHARS = 200


def make_heading(level: int, title: str, char_start: int) -> Heading | None:
    """Return a heading with its title on one line and its level clamped to 1 to 6, or None if the title is empty."""
    words = " ".join(title.split())
    if not words:
        return None
    if len(words) > MAX_TITLE_CHARS:
        words = words[: MAX_TITLE_CHARS - 1].rstrip() + "…"
    return Heading(level=min(max(level, 1), MAX_LEVEL), title=words, char_start=char_start)
