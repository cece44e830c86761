"""Builds the text of workbooks in any format: one line per row, with the sheet's name as the heading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.chunks import Heading, ParsedText, Table
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.ingestion.parsing.tables import HEADER_ROWS, find_header, join_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ragsvc.ingestion.parsing.limits import ParseLimits


class WorkbookWriter:
    """Builds the canonical text from sheets, written in order."""

    def __init__(self, limits: ParseLimits) -> None:
        self._builder = TextBuilder(limits.max_text_chars)
        self._max_cells = limits.max_cells
        self._cells = 0
        self._headings: list[Heading] = []
        self._tables: list[Table] = []

    def write(self, name: str, rows: Iterable[Sequence[str]]) -> None:
        """Add a sheet; an empty sheet adds nothing.

        Raises:
            DocumentRejected: `limit_exceeded`.
        """
        spans: list[tuple[int, int]] = []
        top: list[Sequence[str]] = []
        name_start = self._builder.length
        for row in rows:
            line = join_cells(row)
            if not line:
                continue
            self._count_cells(len(row))
            if not spans:
                name_start, _ = self._builder.append(" ".join(name.split()) or "Sheet", separator="\n\n")
            spans.append(self._builder.append(line))
            if len(top) <= HEADER_ROWS:
                top.append(row)
        if spans:
            self._end_sheet(name, name_start, spans, find_header(top))

    def finish(self, media_type: str) -> ParsedText:
        """Return the text of the workbook."""
        return ParsedText(
            text=self._builder.build(),
            headings=tuple(self._headings),
            tables=tuple(self._tables),
            media_type=media_type,
        )

    def _count_cells(self, cells: int) -> None:
        self._cells += cells
        if self._cells > self._max_cells:
            raise DocumentRejected(
                DocumentErrorCode.LIMIT_EXCEEDED, f"the workbook has more than {self._max_cells:,} cells"
            )

    def _end_sheet(self, name: str, name_start: int, spans: list[tuple[int, int]], header: int | None) -> None:
        heading = make_heading(1, name or "Sheet", name_start)
        self._headings.extend([heading] if heading else [])
        # The first row includes the sheet's name.
        starts = (name_start, *(start for start, _ in spans[1:]))
        self._tables.append(
            Table(
                char_start=name_start,
                char_end=self._builder.length,
                row_starts=starts,
                header=None if header is None else spans[header],
            )
        )
