"""Cuts canonical text into chunks: at headings first, then where the text itself pauses."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from ragsvc.errors import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.hashing import content_hash, embedding_input_hash
from ragsvc.ingestion.parsing.sniffing import MARKDOWN
from ragsvc.ingestion.sections import split_sections
from ragsvc.models.chunks import Chunk, PageSpan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ragsvc.llm.token_counting import TokenCounter
    from ragsvc.models.chunks import ParsedText
    from ragsvc.models.workspaces import Chunking

# The tokens of a block are counted once, to know how many characters a chunk of it may have.
BLOCK_CHARS_PER_TOKEN = 64
# No token stands for more characters than this, white space and words unknown to the model included.
MAX_CHARS_PER_TOKEN = 32
# Text without white space (base64, minified code, tables of numbers) is cut after so many characters per token of
# a chunk: splitter and tokenizers take the square of such a run's length.
RUN_CHARS_PER_TOKEN = 4
# A chunk is aimed below the limit, since tokens are not spread evenly.
FILL = 0.95
TINY_SECTION_CHARS_PER_TOKEN = 0.5
PAUSES = ("\n\n", "\n", ". ", "。", " ")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk before it has its anchors."""

    char_start: int
    text: str
    token_count: int


def iterate_chunks_of(
    parsed: ParsedText, counter: TokenCounter, *, chunking: Chunking, max_input_tokens: int, max_chunks: int
) -> Iterator[Chunk]:
    """Yield the chunks in their order.

    Each has at most `chunking.max_tokens` tokens and, with the special tokens of the model, fits `max_input_tokens`.
    They cover all text but white space. Neighbours share as many sentences, lines or paragraphs (whatever they were
    cut at) as fit about `chunking.overlap_tokens`.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    cutter = _Cutter(parsed, counter, chunking, max_input_tokens)
    tiny_chars = int(chunking.max_tokens * TINY_SECTION_CHARS_PER_TOKEN)
    ordinal = 0
    for section in split_sections(parsed.text, parsed.headings, tiny_chars=tiny_chars):
        for piece in cutter.cut(section.char_start, section.char_end):
            if ordinal == max_chunks:
                raise DocumentRejected(
                    DocumentErrorCode.LIMIT_EXCEEDED, f"the document has more than {max_chunks:,} chunks"
                )
            yield _make_chunk(piece, ordinal, section.path, parsed.pages)
            ordinal += 1


class _Cutter:
    """Cuts one text. The splitter measures in characters, which is ten times as fast; tokens are counted after it."""

    def __init__(self, parsed: ParsedText, counter: TokenCounter, chunking: Chunking, max_input_tokens: int) -> None:
        self._text = parsed.text
        self._is_markdown = parsed.media_type == MARKDOWN
        self._counter = counter
        self._max_tokens = min(chunking.max_tokens, max_input_tokens - counter.special_tokens)
        self._overlap_tokens = min(chunking.overlap_tokens, self._max_tokens - 1)

    def cut(self, start: int, end: int) -> Iterator[_Piece]:
        """Yield the pieces of a section."""
        for block_start, block_end in self._iterate_blocks(start, end):
            yield from self._cut_block(block_start, self._text[block_start:block_end])

    def _cut_block(self, start: int, block: str) -> Iterator[_Piece]:
        whole = self._measure(start, block)
        if whole is None:
            return
        if self._size(whole) <= self._max_tokens:
            yield whole
            return
        density = self._size(whole) / len(whole.text)
        while block:
            for offset, text in self._split(block, density):
                piece = self._measure(start + offset, text)
                if piece is not None and self._size(piece) > self._max_tokens and len(piece.text) > 1:
                    # Denser text than the block's average: the rest is cut again, by what was found here.
                    density = self._size(piece) / len(piece.text)
                    start, block = start + offset, block[offset:]
                    break
                if piece is not None:
                    yield piece
            else:
                return

    def _split(self, text: str, tokens_per_char: float) -> list[tuple[int, str]]:
        capacity = max(int(self._max_tokens * FILL / tokens_per_char), 1)
        overlap = min(int(self._overlap_tokens / tokens_per_char), capacity - 1)
        splitter = MarkdownSplitter if self._is_markdown else TextSplitter
        return splitter(capacity, overlap).chunk_indices(text)

    def _measure(self, start: int, text: str) -> _Piece | None:
        stripped = text.strip()
        if not stripped:
            return None
        start += len(text) - len(text.lstrip())
        return _Piece(char_start=start, text=stripped, token_count=self._counter.count(stripped))

    def _size(self, piece: _Piece) -> int:
        return max(piece.token_count, -(-len(piece.text) // MAX_CHARS_PER_TOKEN))

    def _iterate_blocks(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield spans of bounded length that cover a section, cut where the text pauses; runs are cut anywhere."""
        max_run = self._max_tokens * RUN_CHARS_PER_TOKEN
        max_block = self._max_tokens * BLOCK_CHARS_PER_TOKEN
        run = re.compile(rf"\S{{{max_run},}}|\s{{{max_run},}}")
        for match in run.finditer(self._text, start, end):
            for cut in range(match.start() + max_run, match.end(), max_run):
                yield from self._iterate_bounded(start, cut, max_block)
                start = cut
        yield from self._iterate_bounded(start, end, max_block)

    def _iterate_bounded(self, start: int, end: int, max_block: int) -> Iterator[tuple[int, int]]:
        while end - start > max_block:
            cut = _find_pause(self._text, start + max_block // 2, start + max_block)
            yield start, cut
            start = cut
        yield start, end


def _find_pause(text: str, start: int, end: int) -> int:
    for pause in PAUSES:
        found = text.rfind(pause, start, end)
        if found >= 0:
            return found + len(pause)
    return end


def _make_chunk(piece: _Piece, ordinal: int, path: tuple[str, ...], pages: Sequence[PageSpan]) -> Chunk:
    start, end = piece.char_start, piece.char_start + len(piece.text)
    return Chunk(
        ordinal=ordinal,
        text=piece.text,
        content_hash=content_hash(piece.text),
        # The embedding input is the text itself.
        embedding_input_hash=embedding_input_hash(piece.text),
        char_start=start,
        char_end=end,
        page_spans=tuple(_iterate_page_spans(pages, start, end)),
        heading_path=path,
        token_count=piece.token_count,
    )


def _iterate_page_spans(pages: Sequence[PageSpan], start: int, end: int) -> Iterator[PageSpan]:
    """Yield the part of `[start, end)` on each page that has any of it."""
    index = max(bisect_right(pages, start, key=_page_start) - 1, 0)
    for page in pages[index:]:
        if page.char_start >= end:
            return
        first, last = max(page.char_start, start), min(page.char_end, end)
        if first < last:
            yield PageSpan(page=page.page, char_start=first, char_end=last)


def _page_start(page: PageSpan) -> int:
    return page.char_start
