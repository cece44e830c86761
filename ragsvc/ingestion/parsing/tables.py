"""Rows as every format hands them on: which one names the columns, and how a row is written on a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A header stands at the top, below a title and a few remarks at most.
HEADER_ROWS = 10
MAX_HEADER_CELL_CHARS = 100
NUMBER = re.compile(r"[-+(]?[\d.,'\u00a0 %$€£/:-]+\)?")


class RowCollector:
    """Takes the rows of tables in running text as they come to stand there."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []
        self._top: list[Sequence[str]] = []

    def add(self, span: tuple[int, int], cells: Sequence[str]) -> None:
        """Take a row that stands at the code points `[start, end)`."""
        self._spans.append(span)
        if len(self._top) <= HEADER_ROWS:
            self._top.append(cells)

    def end_table(self) -> Iterator[Table]:
        """Yield the table of the rows since the last one ended, unless nothing names its columns: that reads on."""
        spans, header = self._spans, find_header(self._top)
        self._spans, self._top = [], []
        if header is not None:
            yield Table(spans[0][0], spans[-1][1], tuple(start for start, _ in spans), spans[header])


def find_header(rows: Sequence[Sequence[str]]) -> int | None:
    """Return which of the first rows names the columns: the first full row of distinct, short words, with data below.

    A row of one cell is a title, or the only column of a list, which needs no name.
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
    """Return a row on one line, its cells apart by tabs; '' for a row without words."""
    return "\t".join(" ".join(cell.split()) for cell in _trim(cells))
