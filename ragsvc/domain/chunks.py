"""Text with its anchors: pages, headings, chunks, and the space their vectors live in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.documents import DocumentWarning


@dataclass(frozen=True, slots=True)
class PageSpan:
    """The part of a text that stands on one page: code points `[char_start, char_end)`."""

    page: int
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: level 1 to 6, and the code point where its section begins."""

    level: int
    title: str
    char_start: int


@dataclass(frozen=True, slots=True)
class Table:
    """Code points `[char_start, char_end)` that are rows, each on lines of its own.

    `row_starts` is where they begin, in order; the first begins with the table (a sheet's name stands in it).
    `header` is the part of a row that names the columns, None where nothing does.
    """

    char_start: int
    char_end: int
    row_starts: tuple[int, ...]
    header: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A document's canonical text with its anchors; every offset counts code points of `text`.

    `pages` are pages or slides. `media_type` is what the content turned out to be, whatever the upload said.
    """

    text: str
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[Heading, ...] = ()
    tables: tuple[Table, ...] = ()
    warnings: tuple[DocumentWarning, ...] = ()
    media_type: str = "text/plain"


def join_context(context: str, text: str) -> str:
    """Return the embedding input of a text that stands in a context."""
    return f"{context}\n\n{text}" if context else text


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a canonical text: `canonical[char_start:char_end] == text`, always.

    `content_hash` is the sha256 of the text; `embedding_input_hash` is the embedding cache's key: that of
    `embedding_input`, the text with its `context` before it (headings, its `table_header`), if any.
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
        """What the embedding model is given."""
        return join_context(self.context, self.text)

    @property
    def input_token_count(self) -> int:
        """The tokens of the embedding input, without those that the model adds."""
        return self.token_count + self.context_token_count

    @property
    def page_first(self) -> int | None:
        """The page where the chunk begins, counted from 1; None where the format has no pages."""
        return self.page_spans[0].page if self.page_spans else None

    @property
    def page_last(self) -> int | None:
        """The page where the chunk ends."""
        return self.page_spans[-1].page if self.page_spans else None


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as it is listed."""

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
    """Code points `[start, end)` of a version's canonical text, which has `length` of them."""

    version: int
    start: int
    end: int
    length: int
    text: str


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """What vectors may be compared in; `table` holds its vectors."""

    id: int
    model: str
    dimensions: int
    revision: int

    @property
    def table(self) -> str:
        """The name of its chunk table."""
        return f"chunk_vec_{self.id}"
