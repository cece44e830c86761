"""The tables chunk_text and chunk_vec_*, which search reads."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import orjson

from ragsvc.db.embedding_cache import delete_marks
from ragsvc.db.search.words import separate_words
from ragsvc.domain.chunks import StoredChunk
from ragsvc.domain.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.chunks import Chunk
    from ragsvc.domain.documents import EmbeddingSpace

# One statement with binary arrays; most of its cost is computing the text search vectors. A chunk's vector includes the
# words of the headings and the table header above it, with those of the nearest heading counted twice. The vector of
# these headings is computed once for all chunks that share them.
INSERT_CHUNK_TEXTS = """
WITH headings AS MATERIALIZED (
    SELECT position, ARRAY(SELECT jsonb_array_elements_text(path::jsonb)) AS path,
           to_tsvector($5::regconfig, words::jsonb) || to_tsvector($5::regconfig, nearest) AS search
    FROM unnest($6::text[], $7::text[], $8::text[]) WITH ORDINALITY AS listed (path, words, nearest, position)
)
INSERT INTO chunk_text (workspace_id, id, document_id, collection_id, build_id, ordinal, content, content_hash,
    embedding_input_hash, search, char_start, char_end, page_first, page_last, page_spans, heading_path, token_count)
SELECT $1, c.id, $2, $3, $4, c.ordinal, c.content, c.content_hash, c.embedding_input_hash,
    to_tsvector($5::regconfig, c.words) || headings.search, c.char_start, c.char_end, c.page_first, c.page_last,
    c.page_spans::jsonb, headings.path, c.token_count
FROM unnest($9::uuid[], $10::integer[], $11::text[], $12::text[], $13::bytea[], $14::bytea[], $15::integer[],
            $16::integer[], $17::integer[], $18::integer[], $19::text[], $20::bigint[], $21::integer[])
    AS c (id, ordinal, content, words, content_hash, embedding_input_hash, char_start, char_end, page_first, page_last,
          page_spans, heading, token_count)
JOIN headings ON headings.position = c.heading
"""

VECTOR_COLUMNS = ("workspace_id", "document_id", "collection_id", "build_id", "chunk_id", "embedding")
# COPY's binary format: a header, rows of length-prefixed fields, and a trailer.
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"

# Joins the document in the same statement, because its version could change between two statements.
SELECT_CHUNKS = """
SELECT c.id, c.ordinal, c.content AS text, c.content_hash, c.char_start, c.char_end, c.page_first, c.page_last,
       c.heading_path, c.token_count
FROM documents d
JOIN chunk_text c ON c.workspace_id = $1 AND c.document_id = d.id AND c.build_id = d.active_build
WHERE d.workspace_id = $1 AND d.id = $2 AND c.ordinal > $3
ORDER BY c.ordinal LIMIT $4
"""

# `$2` are documents, `$3` is a build and `$4` a collection; each is null for all of them.
_SELECTED = """workspace_id = $1 AND ($2::uuid[] IS NULL OR document_id = ANY($2))
    AND ($3::uuid IS NULL OR build_id = $3) AND ($4::uuid IS NULL OR collection_id = $4)"""

DELETE_CHUNK_TEXTS = f"""
DELETE FROM chunk_text WHERE workspace_id = $1 AND id IN (SELECT id FROM chunk_text WHERE {_SELECTED} LIMIT $5)
RETURNING embedding_input_hash
"""

DELETE_CHUNK_VECTORS = f"""
DELETE FROM {{table}} WHERE workspace_id = $1 AND chunk_id IN (
    SELECT chunk_id FROM {{table}} WHERE {_SELECTED} LIMIT $5)
"""


async def insert_chunks(
    conn: Connection,
    workspace_id: UUID,
    document_id: UUID,
    *,
    collection_id: UUID,
    build_id: UUID,
    chunks: Sequence[Chunk],
    vectors: NDArray[np.float32],
    space: EmbeddingSpace,
    text_search_config: str,
) -> None:
    """Write a batch of chunks of a build that is not active yet; `vectors` has shape (len(chunks), dimensions)."""
    ids = [new_id() for _ in chunks]
    positions = {names: position for position, names in enumerate(dict.fromkeys(map(_names, chunks)), 1)}
    await conn.execute(
        INSERT_CHUNK_TEXTS,
        workspace_id,
        document_id,
        collection_id,
        build_id,
        text_search_config,
        # As JSON text, since the driver would treat a list of lists as a two-dimensional array.
        [orjson.dumps(path).decode() for path, _header in positions],
        [orjson.dumps([separate_words(name) for name in (*path, header)]).decode() for path, header in positions],
        [separate_words(path[-1]) if path else "" for path, _header in positions],
        ids,
        [chunk.ordinal for chunk in chunks],
        [chunk.text for chunk in chunks],
        [separate_words(chunk.text) for chunk in chunks],
        [chunk.content_hash for chunk in chunks],
        [chunk.embedding_input_hash for chunk in chunks],
        [chunk.char_start for chunk in chunks],
        [chunk.char_end for chunk in chunks],
        [chunk.page_first for chunk in chunks],
        [chunk.page_last for chunk in chunks],
        [_page_spans_json(chunk) for chunk in chunks],
        [positions[_names(chunk)] for chunk in chunks],
        [chunk.token_count for chunk in chunks],
    )
    rows = _copy_rows((workspace_id, document_id, collection_id, build_id), ids, vectors)
    await conn.copy_to_table(space.table, source=BytesIO(rows), columns=VECTOR_COLUMNS, format="binary")


async def select_chunks(
    conn: Connection, workspace_id: UUID, document_id: UUID, *, after_ordinal: int = -1, limit: int
) -> list[StoredChunk]:
    """Return at most `limit` chunks of the active version after `after_ordinal`, in order."""
    rows = await conn.fetch(SELECT_CHUNKS, workspace_id, document_id, after_ordinal, limit)
    return [StoredChunk(**{**row, "heading_path": tuple(row["heading_path"])}) for row in rows]


async def delete_chunk_texts(
    conn: Connection,
    workspace_id: UUID,
    document_ids: Sequence[UUID] | None,
    *,
    build_id: UUID | None = None,
    collection_id: UUID | None = None,
    limit: int,
) -> int:
    """Remove at most `limit` chunks of the documents, the build or the collection, and return their number.

    A condition that is None selects all, even chunks whose document no longer exists.
    """
    removed = await conn.fetch(DELETE_CHUNK_TEXTS, workspace_id, document_ids, build_id, collection_id, limit)
    await delete_marks(conn, workspace_id, hashes=list({row["embedding_input_hash"] for row in removed}))
    return len(removed)


async def delete_chunk_vectors(
    conn: Connection,
    workspace_id: UUID,
    document_ids: Sequence[UUID] | None,
    *,
    space: EmbeddingSpace,
    build_id: UUID | None = None,
    collection_id: UUID | None = None,
    limit: int,
) -> int:
    """Remove at most `limit` vectors, selected like the chunks of `delete_chunk_texts`, and return their number."""
    statement = DELETE_CHUNK_VECTORS.format(table=space.table)
    status = await conn.execute(statement, workspace_id, document_ids, build_id, collection_id, limit)
    return int(status.removeprefix("DELETE "))


def _copy_rows(key: Sequence[UUID], ids: Sequence[UUID], vectors: NDArray[np.float32]) -> bytes:
    """Return VECTOR_COLUMNS in COPY's binary format, assembled by NumPy without a Python loop over rows."""
    count, dimensions = vectors.shape
    uuid = np.dtype([("size", ">i4"), ("value", "V16")])
    halfvec = np.dtype([("size", ">i4"), ("dimensions", ">i2"), ("unused", ">i2"), ("value", ">f2", (dimensions,))])
    rows = np.zeros(count, dtype=[("fields", ">i2"), ("key", uuid, (len(key),)), ("id", uuid), ("vector", halfvec)])
    rows["fields"] = len(VECTOR_COLUMNS)
    rows["key"]["size"] = rows["id"]["size"] = uuid["value"].itemsize
    rows["key"]["value"] = np.frombuffer(b"".join(part.bytes for part in key), "V16")
    rows["id"]["value"] = np.frombuffer(b"".join(one.bytes for one in ids), "V16")
    rows["vector"]["size"] = halfvec.itemsize - halfvec["size"].itemsize
    rows["vector"]["dimensions"] = dimensions
    rows["vector"]["value"] = vectors
    return COPY_HEADER + rows.tobytes() + COPY_TRAILER


def _names(chunk: Chunk) -> tuple[tuple[str, ...], str]:
    return chunk.heading_path, chunk.table_header


def _page_spans_json(chunk: Chunk) -> str | None:
    spans = [[span.page, span.char_start, span.char_end] for span in chunk.page_spans]
    return orjson.dumps(spans).decode() if spans else None
