"""Splits a parsed text into chunks, by section and by whole table rows, and records each chunk's anchors."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import Chunk, PageSpan, join_context
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.chunking.contexts import Contexts
from ragsvc.ingestion.chunking.cutting import Cutter
from ragsvc.ingestion.chunking.sections import split_sections
from ragsvc.ingestion.hashing import content_hash, embedding_input_hash
from ragsvc.ingestion.parsing.titles import find_title

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ragsvc.domain.chunks import ParsedText, Table
    from ragsvc.domain.collections import Chunking
    from ragsvc.ingestion.chunking.contexts import Context
    from ragsvc.ingestion.chunking.cutting import Piece
    from ragsvc.ingestion.chunking.sections import Section
    from ragsvc.llm.token_counting import TokenCounter

    _Cut = tuple[Piece, Context, tuple[str, ...]]

TINY_SECTION_CHARS_PER_TOKEN = 0.5
# A table of up to this many characters per token of a chunk usually fits into one chunk with the text around it.
SMALL_TABLE_CHARS_PER_TOKEN = 2


def iterate_chunks_of(
    parsed: ParsedText,
    counter: TokenCounter,
    *,
    chunking: Chunking,
    max_input_tokens: int,
    max_chunks: int,
    headings_in_context: bool = False,
) -> Iterator[Chunk]:
    """Yield the chunks in document order.

    Each has at most `chunking.max_tokens` tokens and, with its context and the model's special tokens, fits into
    `max_input_tokens`. Together they cover all text except white space. Neighbours overlap by as many whole sentences,
    lines or paragraphs as fit into about `chunking.overlap_tokens`; table rows never overlap.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    input_tokens = max_input_tokens - counter.special_tokens
    contexts = Contexts(parsed.text, counter, input_tokens=input_tokens, with_headings=headings_in_context)
    chunker = _Chunker(parsed, counter, chunking, contexts, input_tokens)
    for ordinal, (piece, context, path) in enumerate(chunker.iterate()):
        if ordinal == max_chunks:
            raise DocumentRejected(
                DocumentErrorCode.LIMIT_EXCEEDED, f"the document has more than {max_chunks:,} chunks"
            )
        yield chunker.make_chunk(ordinal, piece, context, path)


class _Chunker:
    """Iterates over the sections of one text."""

    def __init__(
        self, parsed: ParsedText, counter: TokenCounter, chunking: Chunking, contexts: Contexts, input_tokens: int
    ) -> None:
        self._parsed = parsed
        self._counter = counter
        self._chunking = chunking
        self._contexts = contexts
        self._input_tokens = input_tokens

    def iterate(self) -> Iterator[_Cut]:
        """Yield (piece, context, heading path) in document order."""
        tiny_chars = int(self._chunking.max_tokens * TINY_SECTION_CHARS_PER_TOKEN)
        parsed = self._parsed
        headings = parsed.headings or find_title(parsed)
        for section in split_sections(parsed.text, headings, tiny_chars=tiny_chars, tables=parsed.tables):
            for start, end, table in self._iterate_segments(section):
                yield from self._cut_segment(start, end, table, section.path)

    def _iterate_segments(self, section: Section) -> Iterator[tuple[int, int, Table | None]]:
        """Yield (start, end, table) for each table and for the running text between tables, where `table` is None.

        A table belongs to the section in which it begins. A small table after running text is treated as text.
        """
        tables = self._parsed.tables
        small_chars = self._chunking.max_tokens * SMALL_TABLE_CHARS_PER_TOKEN
        index = bisect_left(tables, section.char_start, key=_table_start)
        position = section.char_start
        for table in tables[index:]:
            if table.char_start >= section.char_end:
                break
            if table.char_start > section.char_start and table.char_end - table.char_start <= small_chars:
                continue
            yield position, table.char_start, None
            yield table.char_start, table.char_end, table
            position = table.char_end
        yield position, section.char_end, None

    def _cut_segment(self, start: int, end: int, table: Table | None, path: tuple[str, ...]) -> Iterator[_Cut]:
        if start >= end:
            return
        context = self._contexts.of(path, table)
        cutter = self._make_cutter(context)
        for piece in cutter.cut_rows(table.row_starts, end) if table else cutter.cut(start, end):
            # A piece that contains the header needs no copy of it as context.
            yield piece, self._contexts.of(path, None) if _contains_header(table, piece) else context, path

    def _make_cutter(self, context: Context) -> Cutter:
        max_tokens = min(self._chunking.max_tokens, self._input_tokens - context.reserved_tokens)
        return Cutter(self._parsed, self._counter, max_tokens=max_tokens, overlap_tokens=self._chunking.overlap_tokens)

    def make_chunk(self, ordinal: int, piece: Piece, context: Context, path: tuple[str, ...]) -> Chunk:
        """Return the piece as a chunk with its anchors."""
        before, tokens = self._contexts.apply(context, piece)
        return Chunk(
            ordinal=ordinal,
            text=piece.text,
            content_hash=content_hash(piece.text),
            embedding_input_hash=embedding_input_hash(join_context(before.text, piece.text)),
            char_start=piece.char_start,
            char_end=piece.char_end,
            page_spans=tuple(_iterate_page_spans(self._parsed.pages, piece.char_start, piece.char_end)),
            heading_path=path,
            table_header=before.header,
            token_count=piece.token_count,
            context=before.text,
            context_token_count=tokens,
        )


def _contains_header(table: Table | None, piece: Piece) -> bool:
    return table is not None and table.header is not None and piece.char_start < table.header[1]


def _iterate_page_spans(pages: Sequence[PageSpan], start: int, end: int) -> Iterator[PageSpan]:
    """Yield the part of `[start, end)` that is on each page."""
    index = max(bisect_right(pages, start, key=_page_start) - 1, 0)
    for page in pages[index:]:
        if page.char_start >= end:
            return
        first, last = max(page.char_start, start), min(page.char_end, end)
        if first < last:
            yield PageSpan(page=page.page, char_start=first, char_end=last)


def _page_start(page: PageSpan) -> int:
    return page.char_start


def _table_start(table: Table) -> int:
    return table.char_start
