"""Paragraphs and rows of word processors' documents, and the text that they make together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.models.chunks import Heading, ParsedText

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ragsvc.ingestion.parsing.limits import ParseLimits


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph or a table's row; `level` is that of a heading, else 0; items follow one another closely."""

    text: str
    level: int = 0
    is_item: bool = False


def build_text(blocks: Iterable[Block], limits: ParseLimits, *, media_type: str) -> ParsedText:
    """Return the blocks as a text, below their headings.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    builder = TextBuilder(limits.max_text_chars)
    headings: list[Heading] = []
    previous: Block | None = None
    for block in blocks:
        dense = previous is not None and block.is_item and previous.is_item
        start, end = builder.append(block.text, separator="\n" if dense else "\n\n")
        heading = make_heading(block.level, block.text, start) if block.level and end > start else None
        if heading is not None:
            headings.append(heading)
        previous = block
    return ParsedText(text=builder.build(), headings=tuple(headings), media_type=media_type)
