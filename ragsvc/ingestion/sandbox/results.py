"""The files in which the parsing process returns its results: a parsed text, and one chunk per line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from ragsvc.domain.chunks import Chunk, Heading, PageSpan, ParsedText, Table
from ragsvc.domain.documents import DocumentWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


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


def read_parsed(path: Path) -> ParsedText:
    """Return the text that `Sandbox.parse` wrote to the file."""
    with path.open("rb") as file:
        anchors = orjson.loads(file.readline())
        text = file.read().decode()
    return ParsedText(
        text=text,
        pages=tuple(PageSpan(*page) for page in anchors["pages"]),
        headings=tuple(Heading(*heading) for heading in anchors["headings"]),
        tables=tuple(_row_to_table(*table) for table in anchors["tables"]),
        warnings=tuple(map(DocumentWarning.from_json, anchors["warnings"])),
        media_type=anchors["media_type"],
    )


def _row_to_table(char_start: int, char_end: int, row_starts: list[int], header: list[int] | None) -> Table:
    return Table(char_start, char_end, tuple(row_starts), (header[0], header[1]) if header else None)


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
    with path.open("rb") as file:
        for line in file:
            yield _line_to_chunk(line)


def _chunk_to_row(chunk: Chunk) -> dict[str, object]:
    return {
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "content_hash": chunk.content_hash.hex(),
        "embedding_input_hash": chunk.embedding_input_hash.hex(),
        "char_start": chunk.char_start,
        "char_end": chunk.char_end,
        "page_spans": [(span.page, span.char_start, span.char_end) for span in chunk.page_spans],
        "heading_path": chunk.heading_path,
        "table_header": chunk.table_header,
        "token_count": chunk.token_count,
        "context": chunk.context,
        "context_token_count": chunk.context_token_count,
    }


def _line_to_chunk(line: bytes) -> Chunk:
    row = orjson.loads(line)
    row["content_hash"] = bytes.fromhex(row["content_hash"])
    row["embedding_input_hash"] = bytes.fromhex(row["embedding_input_hash"])
    row["page_spans"] = tuple(PageSpan(*span) for span in row["page_spans"])
    row["heading_path"] = tuple(row["heading_path"])
    return Chunk(**row)
