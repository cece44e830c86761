"""One document in every format: the promises about chunks hold in each of them."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragsvc.ingestion.chunking import iterate_chunks_of
from ragsvc.models.workspaces import Chunking
from tests.ingestion.invariants import check_chunks
from tests.ingestion.office_files import make_docx
from tests.ingestion.pdf_files import Entry, make_pdf

if TYPE_CHECKING:
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


@pytest.mark.parametrize(
    ("write", "filename"),
    [(to_pdf, "a.pdf"), (to_html, "a.html"), (to_markdown, "a.md"), (to_text, "a.txt"), (to_docx, "a.docx")],
)
@given(document=DOCUMENT)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_format_keeps_the_promises(
    parse: Parse, counter: TokenCounter, write: object, filename: str, document: Document
) -> None:
    assert callable(write)
    parsed = parse(write(document), filename)
    chunks = list(iterate_chunks_of(parsed, counter, chunking=CHUNKING, max_input_tokens=256, max_chunks=10_000))
    check_chunks(parsed, chunks, CHUNKING, counter)
    written = " ".join(" ".join([title, *body]) for title, body in document).split()
    if filename != "a.pdf":
        assert parsed.text.replace("## ", "").split() == written
    if filename != "a.txt":
        assert len(parsed.headings) <= len(document)
        for heading in parsed.headings:
            assert heading.title in parsed.text[heading.char_start :].partition("\n")[0]
