"""CSV and TSV: the source is the canonical text, and its rows form a table."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import ParsedText, Table
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.formats.text.plain_text import read_canonical
from ragsvc.ingestion.parsing.tables import HEADER_ROWS, find_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

DELIMITERS = ",;\t|"
SAMPLE_CHARS = 64 * 1024
SAMPLE_ROWS = 100
# A row with more lines must have an unclosed quote. From its first line on, every line counts as a row.
MAX_ROW_LINES = 1000


@dataclass(frozen=True, slots=True)
class _Row:
    """A row: the offset of its first line, and its cells."""

    char_start: int
    cells: list[str]


def parse_csv(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the source unchanged, with its rows.

    Raises:
        DocumentRejected: `limit_exceeded` or `encoding`.
    """
    text = read_canonical(source, limits)
    table = _read_table(text, limits.max_cells)
    return ParsedText(text=text, tables=(table,) if table else (), media_type=source.text_type)


def find_delimiter(sample: str) -> str:
    """Return the delimiter that gives the most rows the same number of cells, two or more; by default a comma."""
    return max(DELIMITERS, key=lambda delimiter: _count_uniform_rows(sample, delimiter))


def _count_uniform_rows(sample: str, delimiter: str) -> int:
    widths = Counter(len(row.cells) for row in islice(_iterate_rows(sample, delimiter), SAMPLE_ROWS))
    return max((count for width, count in widths.items() if width > 1), default=0)


def _read_table(text: str, max_cells: int) -> Table | None:
    starts: list[int] = []
    top: list[list[str]] = []
    count = 0
    for row in _iterate_rows(text, find_delimiter(text[:SAMPLE_CHARS])):
        starts.append(row.char_start)
        count += len(row.cells)
        if count > max_cells:
            raise DocumentRejected(DocumentErrorCode.LIMIT_EXCEEDED, f"the table has more than {max_cells:,} cells")
        if len(top) <= HEADER_ROWS:
            top.append(row.cells)
    if not starts:
        return None
    index = find_header(top)
    header = None if index is None else (starts[index], starts[index + 1])
    return Table(char_start=starts[0], char_end=len(text), row_starts=tuple(starts), header=header)


def _iterate_rows(text: str, delimiter: str) -> Iterator[_Row]:
    # The whole process shares this limit, so never lower it.
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    starts: list[int] = []  # offsets of the lines that the reader consumed for the current row
    reader = csv.reader(_iterate_lines(text, starts), delimiter=delimiter)
    for cells in reader:
        if len(starts) > MAX_ROW_LINES:
            yield from _iterate_plain_rows(text, starts[0], delimiter)
            return
        if cells:
            yield _Row(starts[0], cells)
        starts.clear()


def _iterate_plain_rows(text: str, start: int, delimiter: str) -> Iterator[_Row]:
    starts: list[int] = []
    for line in _iterate_lines(text[start:], starts):
        if line.strip():
            yield _Row(start + starts[-1], line.split(delimiter))
        starts.clear()


def _iterate_lines(text: str, starts: list[int]) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        starts.append(start)
        yield text[start:end]
        start = end
