"""Collects the tables of an HTML page: the spans of their rows and the text of their cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.ingestion.parsing.tables import RowCollector

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Table

CELLS = frozenset({"td", "th"})


class HtmlTables:
    """Collects tables from elements and lines in document order; `tables` contains the finished ones with a header.

    Tables that contain another table or a heading are used for layout and are treated as text.
    """

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self._depth = 0
        self._is_layout = False
        self._rows = RowCollector()
        self._cells: list[str] = []
        self._span: tuple[int, int] | None = None

    def enter(self, tag: str) -> None:
        """Begin an element; call this after the line before it has ended."""
        if tag == "table":
            self._depth += 1
            self._is_layout = self._is_layout or self._depth > 1
        elif tag == "tr":
            self._cells, self._span = [], None
        elif tag in CELLS:
            self._cells.append("")

    def add_heading(self) -> None:
        """Record that a heading begins."""
        self._is_layout = self._is_layout or self._depth > 0

    def add_line(self, line: str, span: tuple[int, int]) -> None:
        """Add a line at the code points `[start, end)`."""
        if self._cells:
            self._cells[-1] += f" {line}"
            self._span = (self._span[0] if self._span else span[0], span[1])

    def leave(self, tag: str) -> None:
        """End an element; call this after its last line has ended."""
        if tag == "tr":
            if self._span:
                self._rows.add(self._span, self._cells)
            self._cells, self._span = [], None
        elif tag == "table":
            self._depth -= 1
            if self._depth == 0:
                found = list(self._rows.end_table())
                self.tables.extend([] if self._is_layout else found)
                self._is_layout = False
