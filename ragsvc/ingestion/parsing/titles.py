"""The title of a text that has no headings: its first line, where that is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.media_types.formats import PROSE_TYPES

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Heading, ParsedText

MAX_TITLE_CHARS = 120
# A sentence, or what goes on in the next line.
NO_TITLE_ENDS = (".", ",", ";", ":", "-", "!")
# An item, a quotation, a row, code.
NO_TITLE_STARTS = ("-", "*", ">", "|", "`")


def find_title(parsed: ParsedText) -> tuple[Heading, ...]:
    """Return the title as the text's only heading, or nothing where the text begins without one."""
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
    # Pages are read without blank lines.
    following = rest[:1]
    return following == "\n" or bool(parsed.pages and following and not following.islower())
