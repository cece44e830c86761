"""XLSX, XLSB and XLS: the values of every sheet, row by row."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import python_calamine
from python_calamine import CalamineWorkbook

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.containers.zip_archives import open_archive
from ragsvc.ingestion.parsing.formats.office.sheets import WorkbookWriter
from ragsvc.media_types.formats import XLS, XLSX

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from zipfile import ZipFile, ZipInfo

    from ragsvc.domain.chunks import ParsedText
    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

# calamine stores a sheet as a full rectangle, including empty cells: limit its area to this multiple of MAX_CELLS.
AREA_PER_CELL = 4
# Floats represent all integers below this exactly.
EXACT_INTEGERS = 2.0**53
SHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
# A cell with a value: cells that only have a style are self-closing. If a cell repeats its reference, the first one
# counts; the possessive quantifiers prevent backtracking over the others.
CELL = re.compile(rb"<(?:\w+:)?c\b(?:[^<>]*?\br=[\"']([A-Z]{1,3})([0-9]{1,7})[\"'])?+[^<>]*+(?<!/)>")
BLOCK_BYTES = 1024 * 1024
PROLOGUE_BYTES = 64 * 1024


def parse_xlsx(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the values of all sheets, each with its name as the heading.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    with open_archive(source.path, limits) as archive:
        for entry in archive.infolist():
            if SHEET.fullmatch(entry.filename):
                _refuse_entities(archive, entry)
                _check_extent(archive, entry, limits.max_cells)
    return _read(source, limits, media_type=XLSX)


def parse_xls(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the values of all sheets of the old binary format, which itself limits the size of sheets.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    return _read(source, limits, media_type=XLS)


def _read(source: SourceFile, limits: ParseLimits, *, media_type: str) -> ParsedText:
    writer = WorkbookWriter(limits)
    with _calamine_errors():
        workbook = CalamineWorkbook.from_path(source.path)
    for number, name in enumerate(workbook.sheet_names, start=1):
        with _calamine_errors():
            rows = workbook.get_sheet_by_name(name).iter_rows()
        writer.write(name, ([_format_value(value) for value in row] for row in rows))
        source.progress.report(number, len(workbook.sheet_names))
    return writer.finish(media_type)


@contextmanager
def _calamine_errors() -> Iterator[None]:
    try:
        yield
    except python_calamine.PasswordError as error:
        raise DocumentRejected(DocumentErrorCode.ENCRYPTED, "the workbook is password-protected") from error
    except (python_calamine.CalamineError, ValueError, OSError) as error:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, f"the workbook cannot be read: {error}") from error


def _refuse_entities(archive: ZipFile, entry: ZipInfo) -> None:
    """Refuse a sheet that declares entities, which office programs never do and calamine ignores."""
    with archive.open(entry) as part:
        if b"<!ENTITY" in part.read(PROLOGUE_BYTES):
            raise DocumentRejected(DocumentErrorCode.LIMIT_EXCEEDED, "the document's XML declares its own entities")


def _check_extent(archive: ZipFile, entry: ZipInfo, max_cells: int) -> None:
    """Refuse a sheet whose cells are so far apart that the rectangle around them would exhaust memory."""
    columns = rows = 0
    with closing(_iterate_cells(archive, entry)) as cells:
        for count, (column, row) in enumerate(cells, start=1):
            columns, rows = max(columns, column), max(rows, row)
            if count > max_cells or columns * rows > AREA_PER_CELL * max_cells:
                raise DocumentRejected(
                    DocumentErrorCode.LIMIT_EXCEEDED,
                    f"a sheet spans {columns:,} columns and {rows:,} rows; the limit is {max_cells:,} cells",
                )


def _iterate_cells(archive: ZipFile, entry: ZipInfo) -> Generator[tuple[int, int]]:
    """Yield (column, row) of each cell, counted from 1; zeros for a cell without a reference."""
    rest = b""
    with archive.open(entry) as part:
        while block := part.read(BLOCK_BYTES):
            block = rest + block
            border = block.rfind(b"<")
            for match in CELL.finditer(block, 0, border):
                yield _column_number(match[1] or b""), int(match[2] or 0)
            rest = block[border:] if len(block) - border < BLOCK_BYTES else b""


def _column_number(column_name: bytes) -> int:
    number = 0
    for character in column_name:
        number = number * 26 + character - 64
    return number


def _format_value(value: object) -> str:
    match value:
        case bool():
            return str(value).upper()
        case float() if value.is_integer() and abs(value) < EXACT_INTEGERS:
            return str(int(value))
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds").removesuffix(" 00:00:00")
        case _:
            # str() of dates and times is in ISO 8601.
            return str(value)
