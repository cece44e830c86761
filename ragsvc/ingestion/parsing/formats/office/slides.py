"""Builds the text of presentations in any format: each slide is a page with its title as the heading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import Heading, PageSpan, ParsedText
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.blocks import Block, BlockTables
from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder, join_spans

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ragsvc.ingestion.parsing.limits import ParseLimits


@dataclass(slots=True)
class Slide:
    """The text of a slide, in order, and its speaker notes."""

    title: str = ""
    blocks: list[Block] = field(default_factory=list)
    notes: list[Block] = field(default_factory=list)


def build_presentation(slides: Iterable[Slide], limits: ParseLimits, *, media_type: str) -> ParsedText:
    """Return the text of all slides; the heading of a slide without a title is its number.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    builder = TextBuilder(limits.max_text_chars)
    pages: list[PageSpan] = []
    headings: list[Heading] = []
    tables = BlockTables()
    for number, slide in enumerate(slides, start=1):
        if number > limits.max_pages:
            raise DocumentRejected(
                DocumentErrorCode.LIMIT_EXCEEDED, f"the presentation has more than {limits.max_pages:,} slides"
            )
        span = _write_slide(builder, slide, number, tables)
        pages.append(span)
        if span.char_end > span.char_start:
            heading = make_heading(1, slide.title or f"Slide {number}", span.char_start)
            headings.extend([heading] if heading else [])
    return ParsedText(
        text=builder.build(),
        pages=tuple(pages),
        headings=tuple(headings),
        tables=tuple(tables.tables),
        media_type=media_type,
    )


def _write_slide(builder: TextBuilder, slide: Slide, number: int, tables: BlockTables) -> PageSpan:
    spans = [builder.append(slide.title, separator="\n\n")]
    for part in (slide.blocks, slide.notes):
        for index, block in enumerate(part):
            spans.append(builder.append(block.text, separator="\n" if index else "\n\n"))
            tables.add(block, spans[-1])
    tables.end_table()
    start, end = join_spans(spans)
    return PageSpan(page=number, char_start=start, char_end=end)
