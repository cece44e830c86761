"""Invariants of the chunks of every document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.collections import Chunking
from ragsvc.ingestion.chunking.chunker import iterate_chunks_of
from ragsvc.ingestion.hashing import content_hash, embedding_input_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.domain.chunks import Chunk, ParsedText
    from ragsvc.llm.token_counting import TokenCounter


def check_chunks(parsed: ParsedText, chunks: Sequence[Chunk], chunking: Chunking, counter: TokenCounter) -> None:
    """Assert all invariants of the chunks of a text."""
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert parsed.text[chunk.char_start : chunk.char_end] == chunk.text
        assert chunk.text.strip() == chunk.text != ""
        assert 0 <= chunk.token_count == counter.count(chunk.text) <= chunking.max_tokens
        assert chunk.content_hash == content_hash(chunk.text)
        assert chunk.embedding_input_hash == embedding_input_hash(chunk.embedding_input)
        assert chunk.embedding_input.endswith(chunk.text)
        assert chunk.input_token_count == counter.count(chunk.embedding_input)
        check_pages(parsed, chunk)
    check_coverage(parsed, chunks)
    starts = [chunk.char_start for chunk in chunks]
    assert starts == sorted(starts)


def check_long_table(parsed: ParsedText, counter: TokenCounter, *, first: str, last: str) -> None:
    """Assert that a text has one table, from header `first` to last row `last`, and that its chunks start at rows."""
    (table,) = parsed.tables
    assert table.header is not None
    assert parsed.text[slice(*table.header)] == first
    assert parsed.text[: table.char_end].endswith(last)
    chunking = Chunking(max_tokens=120, overlap_tokens=16)
    chunks = list(iterate_chunks_of(parsed, counter, chunking=chunking, max_input_tokens=256, max_chunks=1000))
    check_chunks(parsed, chunks, chunking, counter)
    rows = [chunk for chunk in chunks if table.char_start <= chunk.char_start < table.char_end]
    assert len(rows) > 3
    assert all(chunk.char_start in table.row_starts for chunk in rows)
    assert [chunk.context for chunk in rows] == ["", *[first] * (len(rows) - 1)]
    assert {chunk.context for chunk in chunks if chunk not in rows} == {""}
    assert [chunk.table_header for chunk in chunks] == [chunk.context for chunk in chunks]


def check_coverage(parsed: ParsedText, chunks: Sequence[Chunk]) -> None:
    """Assert that only white space is outside all chunks."""
    covered = 0
    for chunk in chunks:
        assert parsed.text[covered : chunk.char_start].strip() == ""
        covered = max(covered, chunk.char_end)
    assert parsed.text[covered:].strip() == ""


def check_pages(parsed: ParsedText, chunk: Chunk) -> None:
    """Assert that the chunk's page spans give the page of each of its characters."""
    expected = {
        position: page.page
        for page in parsed.pages
        for position in range(max(page.char_start, chunk.char_start), min(page.char_end, chunk.char_end))
    }
    found = {position: span.page for span in chunk.page_spans for position in range(span.char_start, span.char_end)}
    assert found == expected
    if parsed.pages:
        assert chunk.page_first is not None
        assert chunk.page_last is not None
        assert chunk.page_first <= chunk.page_last
