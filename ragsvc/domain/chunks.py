"""Parsed text with its pages and headings, and chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.documents import DocumentWarning


@dataclass(frozen=True, slots=True)
class PageSpan:
    """The span of a text on one page: code points `[char_start, char_end)`."""

    page: int
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: level 1 to 6, and the code point at which its section starts."""

    level: int
    title: str
    char_start: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table at code points `[char_start, char_end)`; every row starts on a new line.

    `row_starts` are the offsets of the rows, in order; the first row starts with the table (and includes a sheet's
    name). `header` is the span of the header row, or None if there is no header.
    """

    char_start: int
    char_end: int
    row_starts: tuple[int, ...]
    header: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ParsedText:
    """The canonical text of a document and its structure; all offsets are code points of `text`.

    `pages` are pages or slides. `media_type` is detected from the content, not declared by the client.
    """

    text: str
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[Heading, ...] = ()
    tables: tuple[Table, ...] = ()
    warnings: tuple[DocumentWarning, ...] = ()
    media_type: str = "text/plain"


def join_context(context: str, text: str) -> str:
    """Return the embedding input for a text and its context."""
    return f"{context}\n\n{text}" if context else text


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a canonical text: `canonical[char_start:char_end] == text` is always true.

    `content_hash` is the SHA-256 of the text. `embedding_input_hash`, the key of the embedding cache, is a hash of
    `embedding_input`: the `context` (headings and `table_header`), if any, and the text.
    """

    ordinal: int
    text: str
    content_hash: bytes
    embedding_input_hash: bytes
    char_start: int
    char_end: int
    page_spans: tuple[PageSpan, ...]
    heading_path: tuple[str, ...]
    token_count: int
    table_header: str = ""
    context: str = ""
    context_token_count: int = 0

    @property
    def embedding_input(self) -> str:
        """The text sent to the embedding model."""
        return join_context(self.context, self.text)

    @property
    def input_token_count(self) -> int:
        """The number of tokens of the embedding input, without special tokens added by the model."""
        return self.token_count + self.context_token_count

    @property
    def page_first(self) -> int | None:
        """The first page of the chunk, counted from 1; None if the format has no pages."""
        return self.page_spans[0].page if self.page_spans else None

    @property
    def page_last(self) -> int | None:
        """The last page of the chunk; None if the format has no pages."""
        return self.page_spans[-1].page if self.page_spans else None


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as listed by the API."""

    id: UUID
    ordinal: int
    text: str
    content_hash: bytes
    char_start: int
    char_end: int
    page_first: int | None
    page_last: int | None
    heading_path: tuple[str, ...]
    token_count: int


@dataclass(frozen=True, slots=True)
class TextSlice:
    """Code points `[start, end)` of a version's canonical text; `length` is the length of the whole text."""

    version: int
    start: int
    end: int
    length: int
    text: str
