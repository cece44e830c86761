"""Paragraphs and rows of word processors' documents, and the text that they make together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.ingestion.parsing.tables import RowCollector, join_cells
from ragsvc.models.chunks import Heading, ParsedText

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ragsvc.ingestion.parsing.limits import ParseLimits
    from ragsvc.models.chunks import Table


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph or a table's row, which has cells; `level` is that of a heading, else 0.

    Items, rows among them, follow one another closely.
    """

    text: str
    level: int = 0
    is_item: bool = False
    cells: tuple[str, ...] = ()
    begins_table: bool = False


def iterate_row_blocks(rows: Iterable[Sequence[str]]) -> Iterator[Block]:
    """Yield the rows of one table that hold words, each on a line."""
    begins_table = True
    for cells in rows:
        line = join_cells(cells)
        if line:
            yield Block(line, is_item=True, cells=tuple(cells), begins_table=begins_table)
            begins_table = False


def build_text(blocks: Iterable[Block], limits: ParseLimits, *, media_type: str) -> ParsedText:
    """Return the blocks as a text, below their headings.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    builder = TextBuilder(limits.max_text_chars)
    headings: list[Heading] = []
    tables: list[Table] = []
    rows = RowCollector()
    previous: Block | None = None
    for block in blocks:
        dense = previous is not None and block.is_item and previous.is_item
        start, end = builder.append(block.text, separator="\n" if dense else "\n\n")
        heading = make_heading(block.level, block.text, start) if block.level and end > start else None
        if heading is not None:
            headings.append(heading)
        if block.begins_table or not block.cells:
            tables.extend(rows.end_table())
        if block.cells and end > start:
            rows.add((start, end), block.cells)
        previous = block
    tables.extend(rows.end_table())
    return ParsedText(text=builder.build(), headings=tuple(headings), tables=tuple(tables), media_type=media_type)
