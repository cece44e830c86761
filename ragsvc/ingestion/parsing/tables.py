"""Rows as every format hands them on: which one names the columns, and how a row is written on a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# A header stands at the top, below a title and a few remarks at most.
HEADER_ROWS = 10
MAX_HEADER_CELL_CHARS = 100
NUMBER = re.compile(r"[-+(]?[\d.,'\u00a0 %$€£/:-]+\)?")


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
