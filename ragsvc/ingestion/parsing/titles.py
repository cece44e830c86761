"""Finds the title of a text without headings: its first line, if that looks like a title."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.media_types.formats import PROSE_TYPES

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Heading, ParsedText

MAX_TITLE_CHARS = 120
# Endings of a sentence, or of a line that continues on the next one.
NO_TITLE_ENDS = (".", ",", ";", ":", "-", "!")
# Beginnings of a list item, a quotation, a table row, or code.
NO_TITLE_STARTS = ("-", "*", ">", "|", "`")


def find_title(parsed: ParsedText) -> tuple[Heading, ...]:
    """Return the title as the text's only heading, or an empty tuple if the first line is not a title."""
    if parsed.media_type not in PROSE_TYPES:
        return ()
    text = parsed.text.lstrip()
    first, _, rest = text.partition("\n")
    if not (_looks_like_title(first.rstrip()) and _is_set_apart(rest, parsed)):
        return ()
    heading = make_heading(1, first, len(parsed.text) - len(text))
    return (heading,) if heading else ()


def _looks_like_title(line: str) -> bool:
    return (
        len(line) <= MAX_TITLE_CHARS
        and any(map(str.isalpha, line))
        and not line.startswith(NO_TITLE_STARTS)
        and not line.endswith(NO_TITLE_ENDS)
    )


def _is_set_apart(rest: str, parsed: ParsedText) -> bool:
    # Text from pages has no blank lines.
    following = rest[:1]
    return following == "\n" or bool(parsed.pages and following and not following.islower())
