"""The files in which the parsing process returns its results: a parsed text, and one chunk per line."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from ragsvc.domain.chunks import Chunk, Heading, PageSpan, ParsedText, Table, join_context
from ragsvc.domain.documents import DocumentWarning
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.hashing import content_hash, embedding_input_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO


class _Anchors(TypedDict):
    media_type: str
    pages: tuple[tuple[int, int, int], ...]
    headings: tuple[tuple[int, str, int], ...]
    warnings: tuple[dict[str, Any], ...]
    tables: tuple[tuple[int, int, tuple[int, ...], tuple[int, int] | None], ...]


class _Row(TypedDict):
    ordinal: int
    text: str
    char_start: int
    char_end: int
    page_spans: tuple[tuple[int, int, int], ...]
    heading_path: tuple[str, ...]
    table_header: str
    token_count: int
    context: str
    context_token_count: int


_ANCHORS = TypeAdapter(_Anchors)
_ROW = TypeAdapter(_Row)


def write_parsed(parsed: ParsedText, path: Path) -> None:
    """Write the anchors as one line of JSON, then the text in UTF-8."""
    anchors = {
        "media_type": parsed.media_type,
        "pages": [(page.page, page.char_start, page.char_end) for page in parsed.pages],
        "headings": [(heading.level, heading.title, heading.char_start) for heading in parsed.headings],
        "warnings": [warning.to_json() for warning in parsed.warnings],
        "tables": [(table.char_start, table.char_end, table.row_starts, table.header) for table in parsed.tables],
    }
    with path.open("wb") as file:
        file.write(orjson.dumps(anchors, option=orjson.OPT_APPEND_NEWLINE))
        file.write(parsed.text.encode())


def open_result(path: Path) -> BinaryIO:
    """Open a file that a parsing process wrote; a link or a pipe in its place is refused.

    Raises:
        DocumentRejected: it is not a regular file.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable() from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _unreadable()
    return os.fdopen(file, "rb")


def _unreadable() -> DocumentRejected:
    return DocumentRejected(DocumentErrorCode.PARSER_CRASH, "the parser returned an unreadable result")


@contextmanager
def _refusing_unreadable() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _unreadable() from error


def read_parsed(path: Path) -> ParsedText:
    """Return the text that `Sandbox.parse` wrote to the file.

    Raises:
        DocumentRejected: the file was not written by `write_parsed`.
    """
    with open_result(path) as file, _refusing_unreadable():
        return _read_parsed(file)


def _read_parsed(file: BinaryIO) -> ParsedText:
    anchors = _ANCHORS.validate_json(file.readline())
    return ParsedText(
        text=file.read().decode(),
        pages=tuple(PageSpan(*page) for page in anchors["pages"]),
        headings=tuple(Heading(*heading) for heading in anchors["headings"]),
        tables=tuple(Table(*table) for table in anchors["tables"]),
        warnings=tuple(map(DocumentWarning.from_json, anchors["warnings"])),
        media_type=anchors["media_type"],
    )


def write_chunks(chunks: Iterable[Chunk], path: Path) -> int:
    """Write one chunk per line and return the number of chunks."""
    count = 0
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(orjson.dumps(_chunk_to_row(chunk), option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def iterate_chunks(path: Path) -> Iterator[Chunk]:
    """Yield the chunks that `Sandbox.chunk` wrote to the file, in order; only one is in memory at a time."""
    with open_result(path) as file:
        for line in file:
            with _refusing_unreadable():
                chunk = _line_to_chunk(line)
            yield chunk


def _chunk_to_row(chunk: Chunk) -> _Row:
    return {
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "char_start": chunk.char_start,
        "char_end": chunk.char_end,
        "page_spans": tuple((span.page, span.char_start, span.char_end) for span in chunk.page_spans),
        "heading_path": chunk.heading_path,
        "table_header": chunk.table_header,
        "token_count": chunk.token_count,
        "context": chunk.context,
        "context_token_count": chunk.context_token_count,
    }


def _line_to_chunk(line: bytes) -> Chunk:
    """Return a chunk, whose hashes are computed here: a forged one would put a vector under the key of another text."""
    row = _ROW.validate_json(line)
    return Chunk(
        ordinal=row["ordinal"],
        text=row["text"],
        content_hash=content_hash(row["text"]),
        embedding_input_hash=embedding_input_hash(join_context(row["context"], row["text"])),
        char_start=row["char_start"],
        char_end=row["char_end"],
        page_spans=tuple(PageSpan(*span) for span in row["page_spans"]),
        heading_path=row["heading_path"],
        table_header=row["table_header"],
        token_count=row["token_count"],
        context=row["context"],
        context_token_count=row["context_token_count"],
    )
