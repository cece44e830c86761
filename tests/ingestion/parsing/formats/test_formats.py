"""The invariants of chunks for the same document in every format."""

from __future__ import annotations

import csv
import io
import json
from html import escape
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragsvc.domain.collections import Chunking
from ragsvc.ingestion.chunking.chunker import iterate_chunks_of
from tests.ingestion.invariants import check_chunks
from tests.ingestion.parsing.formats.office_files import make_docx, make_pptx, make_xlsx
from tests.ingestion.parsing.formats.open_documents import make_epub, make_odp, make_ods, make_odt
from tests.ingestion.parsing.formats.pdf_files import Entry, make_pdf

if TYPE_CHECKING:
    from collections.abc import Callable

    from ragsvc.llm.token_counting import TokenCounter
    from tests.ingestion.conftest import Parse

    Document = list[tuple[str, list[str]]]

WORD = st.text(st.sampled_from("abcdefgxyzéüßñç0123456789"), min_size=1, max_size=12)
PARAGRAPH = st.lists(WORD, min_size=1, max_size=60).map(" ".join)
DOCUMENT = st.lists(st.tuples(WORD, st.lists(PARAGRAPH, max_size=6)), min_size=1, max_size=6)
CHUNKING = Chunking(max_tokens=60, overlap_tokens=8)


def to_pdf(document: Document) -> bytes:
    pages = [
        [title, *(paragraph[start : start + 80] for paragraph in body for start in range(0, len(paragraph), 80))]
        for title, body in document
    ]
    return make_pdf(pages, outline=tuple(Entry(title, page) for page, (title, _) in enumerate(document)))


def to_html(document: Document) -> bytes:
    sections = (f"<h2>{title}</h2>" + "".join(f"<p>{escape(text)}</p>" for text in body) for title, body in document)
    return f"<!doctype html><html><body>{''.join(sections)}</body></html>".encode()


def to_markdown(document: Document) -> bytes:
    return "\n\n".join(f"## {title}\n\n" + "\n\n".join(body) for title, body in document).encode()


def to_text(document: Document) -> bytes:
    return "\r\n\r\n".join("\r\n".join([title, *body]) for title, body in document).encode("utf-16")


def to_docx(document: Document) -> bytes:
    paragraphs: list[str | tuple[str, str]] = []
    for title, body in document:
        paragraphs += [("Heading 2", title), *body]
    return make_docx(*paragraphs)


def to_pptx(document: Document) -> bytes:
    return make_pptx(*document)


def to_odp(document: Document) -> bytes:
    return make_odp(*document)


def to_odt(document: Document) -> bytes:
    return make_odt(*(block for title, body in document for block in ((2, title), *((0, text) for text in body))))


def to_rows(document: Document) -> dict[str, list[list[str]]]:
    return {f"Sheet {number}": [[title, text] for text in body] for number, (title, body) in enumerate(document)}


def to_xlsx(document: Document) -> bytes:
    return make_xlsx(to_rows(document))


def to_ods(document: Document) -> bytes:
    return make_ods(to_rows(document))


def to_epub(document: Document) -> bytes:
    pages = [f"<h2>{title}</h2>{''.join(f'<p>{text}</p>' for text in body)}" for title, body in document]
    return make_epub(pages, contents=["Contents"] * len(pages))


def to_csv(document: Document) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";")
    writer.writerow(["Title", "Words\nof it"])
    writer.writerows([title, "\n".join(body)] for title, body in document)
    return buffer.getvalue().encode()


def to_json(document: Document) -> bytes:
    return json.dumps([{title: body} for title, body in document]).encode()


def to_json_lines(document: Document) -> bytes:
    return b"\n".join(json.dumps({title: body}).encode() for title, body in document)


def to_rtf(document: Document) -> bytes:
    paragraphs = [text for title, body in document for text in (title, *body)]
    return ("{\\rtf1\\ansi\\ansicpg1252 " + "\\par\n".join(paragraphs) + "}").encode("cp1252")


def to_code(document: Document) -> bytes:
    functions = (
        f"def f{number}():\n" + "".join(f"    # {text}\n" for text in body) + f"    return {title!r}\n"
        for number, (title, body) in enumerate(document)
    )
    return "\n\n".join(functions).encode()


WRITERS = {
    "a.pdf": to_pdf,
    "a.html": to_html,
    "a.md": to_markdown,
    "a.txt": to_text,
    "a.docx": to_docx,
    "a.pptx": to_pptx,
    "a.xlsx": to_xlsx,
    "a.odt": to_odt,
    "a.odp": to_odp,
    "a.ods": to_ods,
    "a.epub": to_epub,
    "a.csv": to_csv,
    "a.json": to_json,
    "a.jsonl": to_json_lines,
    "a.rtf": to_rtf,
    "a.py": to_code,
}
# Formats whose text contains more than the document's words.
MARKED_UP = frozenset({"a.pdf", "a.csv", "a.json", "a.jsonl", "a.py"})
SHEETS = frozenset({"a.xlsx", "a.ods"})


@pytest.mark.parametrize(("filename", "write"), WRITERS.items())
@given(document=DOCUMENT, headings_in_context=st.booleans())
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
def test_chunks_of_every_format_satisfy_the_invariants(
    parse: Parse,
    counter: TokenCounter,
    write: Callable[[Document], bytes],
    filename: str,
    document: Document,
    *,
    headings_in_context: bool,
) -> None:
    if filename in SHEETS:
        document = [(title, body or ["word"]) for title, body in document]
    parsed = parse(write(document), filename)
    chunks = list(
        iterate_chunks_of(
            parsed,
            counter,
            chunking=CHUNKING,
            max_input_tokens=80,
            max_chunks=10_000,
            headings_in_context=headings_in_context,
        )
    )
    check_chunks(parsed, chunks, CHUNKING, counter)
    assert max(chunk.input_token_count for chunk in chunks) + counter.special_tokens <= 80
    if filename not in MARKED_UP | SHEETS:
        written = " ".join(" ".join([title, *body]) for title, body in document).split()
        assert parsed.text.replace("## ", "").split() == written
    for heading in parsed.headings:
        assert heading.title in parsed.text[heading.char_start :].partition("\n")[0]
