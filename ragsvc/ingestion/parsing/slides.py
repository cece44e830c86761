"""Slides of presentations, whatever program wrote them: each is a page below its title."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragsvc.errors import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.models.chunks import Heading, PageSpan, ParsedText

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ragsvc.ingestion.parsing.limits import ParseLimits


@dataclass(slots=True)
class Slide:
    """What stands on a slide, in its order, then the speaker's notes; a block is a paragraph or a table's row."""

    title: str = ""
    blocks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build_presentation(slides: Iterable[Slide], limits: ParseLimits, *, media_type: str) -> ParsedText:
    """Return the text of all slides; one without a title is named by its number.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    builder = TextBuilder(limits.max_text_chars)
    pages: list[PageSpan] = []
    headings: list[Heading] = []
    for number, slide in enumerate(slides, start=1):
        if number > limits.max_pages:
            raise DocumentRejected(DocumentErrorCode.LIMIT_EXCEEDED, f"more than {limits.max_pages:,} slides")
        span = _write_slide(builder, slide, number)
        pages.append(span)
        if span.char_end > span.char_start:
            heading = make_heading(1, slide.title or f"Slide {number}", span.char_start)
            headings.extend([heading] if heading else [])
    return ParsedText(text=builder.build(), pages=tuple(pages), headings=tuple(headings), media_type=media_type)


def _write_slide(builder: TextBuilder, slide: Slide, number: int) -> PageSpan:
    start, end = builder.append(slide.title, separator="\n\n")
    for part in (slide.blocks, slide.notes):
        block_start, block_end = builder.append("\n".join(part), separator="\n\n")
        if end == start:
            start = block_start
        end = max(end, block_end)
    return PageSpan(page=number, char_start=start, char_end=end)
