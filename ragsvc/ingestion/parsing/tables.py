"""Table rows, handled the same way for every format: finding the header row, and writing a row as one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A header is near the top, after at most a title and a few remarks.
HEADER_ROWS = 10
MAX_HEADER_CELL_CHARS = 100
NUMBER = re.compile(r"[-+(]?[\d.,'\u00a0 %$€£/:-]+\)?")


class RowCollector:
    """Collects the rows of tables in running text, in document order."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []
        self._top: list[Sequence[str]] = []

    def add(self, span: tuple[int, int], cells: Sequence[str]) -> None:
        """Add a row at the code points `[start, end)`."""
        self._spans.append(span)
        if len(self._top) <= HEADER_ROWS:
            self._top.append(cells)

    def end_table(self) -> Iterator[Table]:
        """Yield the rows added since the last call as a table if they have a header; otherwise they are plain text."""
        spans, header = self._spans, find_header(self._top)
        self._spans, self._top = [], []
        if header is not None:
            yield Table(spans[0][0], spans[-1][1], tuple(start for start, _ in spans), spans[header])


def find_header(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the index of the header, which is the first wide row if its cells are distinct short names; else None.

    A row of one cell is a title, or an item of a list that needs no header. A header must be followed by a row.
    """
    width = max((len(_trim(row)) for row in rows), default=0)
    for index, row in enumerate(rows[:HEADER_ROWS]):
        cells = _trim(row)
        if len(cells) > 1 and 2 * len(cells) > width:
            return index if _names_columns(cells) and index + 1 < len(rows) else None
    return None


def _names_columns(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return (
        2 * len(filled) > len(cells)
        and len(set(filled)) == len(filled)
        and not any(NUMBER.fullmatch(cell) or len(cell) > MAX_HEADER_CELL_CHARS for cell in filled)
    )


def _trim(row: Sequence[str]) -> list[str]:
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def join_cells(cells: Sequence[str]) -> str:
    """Return a row as one line of tab-separated cells; '' for an empty row."""
    return "\t".join(" ".join(cell.split()) for cell in _trim(cells))
