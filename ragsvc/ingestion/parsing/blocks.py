"""Paragraphs and table rows of word processor documents, and the canonical text built from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import Heading, ParsedText, Table
from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.ingestion.parsing.tables import RowCollector, join_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ragsvc.ingestion.parsing.limits import ParseLimits


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, or a table row if it has cells; `level` is the heading level, 0 for other paragraphs.

    Consecutive items (list items or rows) are not separated by a blank line.
    """

    text: str
    level: int = 0
    is_item: bool = False
    cells: tuple[str, ...] = ()
    begins_table: bool = False


class BlockTables:
    """Collects tables from blocks in document order; `tables` contains the finished ones that have a header."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self._rows = RowCollector()

    def add(self, block: Block, span: tuple[int, int]) -> None:
        """Add a block at the code points `[start, end)`."""
        if block.begins_table or not block.cells:
            self.end_table()
        if block.cells and span[1] > span[0]:
            self._rows.add(span, block.cells)

    def end_table(self) -> None:
        """End the current table, if any."""
        self.tables.extend(self._rows.end_table())


def iterate_row_blocks(rows: Iterable[Sequence[str]]) -> Iterator[Block]:
    """Yield the non-empty rows of one table as blocks."""
    begins_table = True
    for cells in rows:
        line = join_cells(cells)
        if line:
            yield Block(line, is_item=True, cells=tuple(cells), begins_table=begins_table)
            begins_table = False


def build_text(blocks: Iterable[Block], limits: ParseLimits, *, media_type: str) -> ParsedText:
    """Return the blocks as canonical text with headings and tables.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    builder = TextBuilder(limits.max_text_chars)
    headings: list[Heading] = []
    tables = BlockTables()
    previous: Block | None = None
    for block in blocks:
        dense = previous is not None and block.is_item and previous.is_item
        start, end = builder.append(block.text, separator="\n" if dense else "\n\n")
        heading = make_heading(block.level, block.text, start) if block.level and end > start else None
        if heading is not None:
            headings.append(heading)
        tables.add(block, (start, end))
        previous = block
    tables.end_table()
    return ParsedText(
        text=builder.build(), headings=tuple(headings), tables=tuple(tables.tables), media_type=media_type
    )
