"""Workbooks and CSV files: rows are not split and are embedded with their column names."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.collections import Chunking
from ragsvc.ingestion.chunking.chunker import iterate_chunks_of
from tests.ingestion.invariants import check_chunks
from tests.ingestion.parsing.formats.office_files import make_xlsx, replace_entry
from tests.ingestion.parsing.formats.open_documents import make_ods, make_open_document
from tests.ingestion.support import assert_linear_time, refusal_of

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Chunk, ParsedText
    from ragsvc.ingestion.parsing.limits import ParseLimits
    from ragsvc.llm.token_counting import TokenCounter
    from tests.ingestion.conftest import Parse

CHUNKING = Chunking(max_tokens=60, overlap_tokens=8)
HEADER = ["City", "Country", "Founded"]
ROWS = [HEADER, *([f"Town {number}", "Somewhere", str(1000 + number)] for number in range(200))]
SHEET = "xl/worksheets/sheet1.xml"


def chunk(parsed: ParsedText, counter: TokenCounter) -> list[Chunk]:
    chunks = list(iterate_chunks_of(parsed, counter, chunking=CHUNKING, max_input_tokens=256, max_chunks=10_000))
    check_chunks(parsed, chunks, CHUNKING, counter)
    return chunks


def to_csv(rows: list[list[str]], delimiter: str = ",") -> bytes:
    return "\n".join(delimiter.join(row) for row in rows).encode()


@pytest.mark.parametrize(
    ("data", "filename", "separator"),
    [
        (make_xlsx({"Cities": ROWS}), "a.xlsx", "\t"),
        (make_ods({"Cities": ROWS}), "a.ods", "\t"),
        (to_csv(ROWS), "a.csv", ","),
        (to_csv(ROWS, ";"), "a.csv", ";"),
        (to_csv(ROWS, "\t"), "a.tsv", "\t"),
    ],
    ids=["xlsx", "ods", "comma", "semicolon", "tab"],
)
def test_rows_are_not_split_and_have_their_header_as_context(
    parse: Parse, counter: TokenCounter, data: bytes, filename: str, separator: str
) -> None:
    parsed = parse(data, filename)
    chunks = chunk(parsed, counter)
    header = separator.join(HEADER)
    assert len(chunks) > 10
    lines = [separator.join(row) for row in ROWS]
    found = [line for piece in chunks for line in piece.text.splitlines()]
    assert [line for line in found if line != "Cities"] == lines
    assert chunks[0].context == ""
    assert {piece.context for piece in chunks[1:]} == {header}
    assert all(piece.embedding_input == f"{header}\n\n{piece.text}" for piece in chunks[1:])
    assert all(header not in piece.text for piece in chunks[1:])


@pytest.mark.parametrize("make", [make_xlsx, make_ods])
def test_the_name_of_a_sheet_is_the_heading_of_its_rows(parse: Parse, counter: TokenCounter, make: object) -> None:
    assert callable(make)
    chunks = chunk(parse(make({"First": [["a", "b"], ["1", "2"]], "Empty": [], "Second": [["c"]]})), counter)
    assert [(piece.heading_path, piece.text) for piece in chunks] == [
        (("First",), "First\na\tb\n1\t2"),
        (("Second",), "Second\nc"),
    ]


def test_values_are_formatted_for_readers(parse: Parse) -> None:
    moment = dt.datetime(2026, 1, 31, 12, 30)  # noqa: DTZ001 - cells have no time zone
    rows: list[list[object]] = [
        ["when", "what"],
        [dt.date(2026, 1, 31), 3.0],
        [moment, 0.25],
        [True, "two\nlines\tand a tab"],
    ]
    parsed = parse(make_xlsx({"S": [["a title"], *rows]}))
    assert parsed.text == "S\na title\nwhen\twhat\n2026-01-31\t3\n2026-01-31\t0.25\nTRUE\ttwo lines and a tab".replace(
        "2026-01-31\t0.25", "2026-01-31 12:30:00\t0.25"
    )
    (table,) = parsed.tables
    assert table.header is not None
    assert parsed.text[slice(*table.header)] == "when\twhat"


@pytest.mark.parametrize("rows", [[["1", "2"], ["3", "4"]], [["only"], ["one"], ["column"]], [["a", "a"], ["1", "2"]]])
def test_rows_that_name_no_columns_are_not_a_header(parse: Parse, rows: list[list[str]]) -> None:
    (table,) = parse(to_csv(rows), "a.csv").tables
    assert table.header is None


def test_a_quoted_cell_can_contain_line_breaks_and_delimiters(parse: Parse) -> None:
    parsed = parse(b'name;text\r\nAda;"one; two\r\n""three"""\r\nBob;x\r\n', "a.csv")
    (table,) = parsed.tables
    borders = [*table.row_starts, len(parsed.text)]
    rows = [parsed.text[start:end] for start, end in pairwise(borders)]
    assert rows == ["name;text\n", 'Ada;"one; two\n""three"""\n', "Bob;x\n"]


def test_an_unclosed_quote_affects_only_its_row(parse: Parse) -> None:
    lines = [f"{number},word" for number in range(5000)]
    lines[10] = '10,"word'
    (table,) = parse("\n".join(["id,word", *lines]).encode(), "a.csv").tables
    assert len(table.row_starts) == 5001


def test_a_row_too_long_for_a_chunk_is_split(parse: Parse, counter: TokenCounter) -> None:
    rows = [["id", "text"], ["1", "word " * 500], ["2", "short"]]
    chunks = chunk(parse(make_xlsx({"S": rows})), counter)
    assert chunks[-1].text == "2\tshort"
    assert chunks[-1].context == "id\ttext"


def test_a_header_that_would_fill_the_models_input_is_omitted(parse: Parse, counter: TokenCounter) -> None:
    rows = [[f"column {number}" for number in range(200)], *([str(n) for n in range(200)] for _ in range(5))]
    assert {piece.context for piece in chunk(parse(make_xlsx({"S": rows})), counter)} == {""}


def test_more_cells_than_the_limit_are_refused(parse: Parse, limits: ParseLimits) -> None:
    few = replace(limits, max_cells=100)
    for data, filename in ((make_xlsx({"S": ROWS}), ""), (make_ods({"S": ROWS}), ""), (to_csv(ROWS), "a.csv")):
        assert refusal_of(parse, data, filename, limits=few)[0] == "limit_exceeded"


def test_cells_far_apart_are_refused_before_the_sheet_is_allocated(parse: Parse) -> None:
    sheet = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1">'
        b'<c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>'
    )
    code, detail = refusal_of(parse, replace_entry(make_xlsx({"S": [["x"]]}), SHEET, sheet))
    assert (code, "16,384 columns" in detail) == ("limit_exceeded", True)


def test_a_cell_with_many_references_is_scanned_in_linear_time(parse: Parse) -> None:
    def make(size: int) -> bytes:
        sheet = b"<worksheet><sheetData><row><c" + b' r="A1"' * size + b"/></row></sheetData></worksheet>"
        return replace_entry(make_xlsx({"S": [["x"]]}), SHEET, sheet)

    assert_linear_time(make, lambda workbook: refusal_of(parse, workbook, "a.xlsx"), size=20_000)


def test_styled_cells_without_values_do_not_count(parse: Parse) -> None:
    sheet = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1">'
        b'<c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576" s="1"/></row></sheetData></worksheet>'
    )
    assert parse(replace_entry(make_xlsx({"S": [["x"]]}), SHEET, sheet)).text == "S\n1"


def test_a_row_of_a_million_columns_is_refused(parse: Parse) -> None:
    row = '<table:table-cell table:number-columns-repeated="999999999"><text:p>x</text:p></table:table-cell>'
    body = f'<table:table table:name="S"><table:table-row>{row}</table:table-row></table:table>'
    assert refusal_of(parse, make_open_document("spreadsheet", body))[0] == "limit_exceeded"


def test_a_damaged_workbook_is_corrupt(parse: Parse) -> None:
    whole = make_xlsx({"S": ROWS})
    assert refusal_of(parse, replace_entry(whole, SHEET, b"<worksheet><sheetData><row"))[0] == "corrupt"
    assert refusal_of(parse, replace_entry(whole, "xl/workbook.xml", b"junk"))[0] == "corrupt"
