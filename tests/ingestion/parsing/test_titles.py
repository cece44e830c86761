"""Titles: the first line of a text without headings becomes the heading of all its chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.chunks import Heading, PageSpan, ParsedText
from ragsvc.domain.collections import Chunking
from ragsvc.ingestion.chunking.chunker import iterate_chunks_of
from ragsvc.ingestion.parsing.titles import MAX_TITLE_CHARS, find_title
from ragsvc.media_types.formats import CSV, MARKDOWN, PDF, PLAIN_TEXT

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Chunk
    from ragsvc.llm.token_counting import TokenCounter

BODY = "The kettle is cleaned with citric acid every three months, and rinsed twice. " * 30


def plain(text: str) -> ParsedText:
    return ParsedText(text=text, media_type=PLAIN_TEXT)


def paged(text: str) -> ParsedText:
    return ParsedText(text=text, pages=(PageSpan(1, 0, len(text)),), media_type=PDF)


def chunk(parsed: ParsedText, counter: TokenCounter) -> list[Chunk]:
    return list(
        iterate_chunks_of(
            parsed,
            counter,
            chunking=Chunking(max_tokens=120, overlap_tokens=0),
            max_input_tokens=256,
            max_chunks=100,
            headings_in_context=True,
        )
    )


@pytest.mark.parametrize(
    ("parsed", "title"),
    [
        (plain("Zephyr 300:  the manual\n\nIt boils."), "Zephyr 300: the manual"),
        (plain("\n\nWhy kettles?\n\nThey boil."), "Why kettles?"),
        (paged("Zephyr 300\nIt boils water."), "Zephyr 300"),
        (plain("Zephyr 300"), ""),
        (plain("A text that is wrapped\nat some width."), ""),
        (paged("A text that is wrapped\nat some width."), ""),
        (plain("It boils.\n\nIt cools."), ""),
        (plain("Dear customers,\n\nIt boils."), ""),
        (plain("-----\n\nIt boils"), ""),
        (plain("- one\n\n- two"), ""),
        (plain("```python\n\nboil()"), ""),
        (plain("2024\n\nIt boils"), ""),
        (plain(f"{'a' * (MAX_TITLE_CHARS + 1)}\n\nIt boils"), ""),
        (plain(""), ""),
        (ParsedText(text="name\n\nAda", media_type=CSV), ""),
    ],
)
def test_a_separate_first_line_is_the_title(parsed: ParsedText, title: str) -> None:
    assert [heading.title for heading in find_title(parsed)] == ([title] if title else [])


def test_the_title_is_the_heading_of_every_chunk(counter: TokenCounter) -> None:
    chunks = chunk(plain(f"Zephyr 300\n\n{BODY}"), counter)
    assert len(chunks) > 3
    assert {(piece.context, piece.heading_path) for piece in chunks} == {("Zephyr 300", ("Zephyr 300",))}


def test_a_text_with_headings_gets_no_title(counter: TokenCounter) -> None:
    text = f"Zephyr 300\n\n# Cleaning\n\n{BODY}"
    start = text.index("#")
    parsed = ParsedText(text=text, headings=(Heading(1, "Cleaning", start),), media_type=MARKDOWN)
    below = [piece for piece in chunk(parsed, counter) if piece.char_start >= start]
    assert {piece.heading_path for piece in below} == {("Cleaning",)}
