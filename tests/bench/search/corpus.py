"""Bulk-loads a large workspace; its vector index is rebuilt at the end, with the same parameters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragsvc.db.collections import insert_collection
from ragsvc.db.connections.sessions import ENTER_SYSTEM
from ragsvc.domain.ids import new_id
from tests.bench.search.vectors import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from numpy.typing import NDArray

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.documents import EmbeddingSpace
    from tests.bench.search.vectors import Vectors

# Values of the attribute `bucket`: a filter `bucket < 10` selects a random 1 % of the documents.
BUCKETS = 1000
WORDS_PER_CHUNK = 60
VOCABULARY = 30_000
# Word frequency falls with rank (Zipf).
ZIPF = 1.1
LOAD_TIMEOUT_S = 3600

COPIED = """
CREATE TEMPORARY TABLE copied (id uuid, document_id uuid, collection_id uuid, build_id uuid, ordinal integer,
                               content text) ON COMMIT DROP
"""
INSERT_TEXTS = """
INSERT INTO chunk_text (workspace_id, id, document_id, collection_id, build_id, ordinal, content, content_hash,
    embedding_input_hash, search, char_start, char_end, heading_path, token_count)
SELECT $1, id, document_id, collection_id, build_id, ordinal, content, '', '', to_tsvector('english', content),
    0, length(content), '{}', $2
FROM copied
"""
# The trigger that counts chunks runs only when documents are updated, so copied documents are counted here.
INSERT_SIZES = """
INSERT INTO collection_sizes SELECT workspace_id, collection_id, sum(chunk_count), sum(token_count) FROM documents
WHERE workspace_id = $1 GROUP BY workspace_id, collection_id
"""
FIND_INDEX = """
SELECT indexrelid::regclass::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') FROM pg_index
WHERE indrelid = $1::regclass AND pg_get_indexdef(indexrelid) LIKE '%hnsw%'
"""
FILE_COLUMNS = (
    "workspace_id",
    "id",
    "upload_id",
    "object_key",
    "filename",
    "mime_type",
    "size_bytes",
    "sha256",
    "etag",
)
DOCUMENT_COLUMNS = (
    "workspace_id",
    "id",
    "collection_id",
    "file_id",
    "status",
    "version",
    "active_build",
    "attributes",
    "chunk_count",
    "token_count",
)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A workspace whose documents have one topic each; every topic has its own collection."""

    workspace_id: UUID
    collection_ids: tuple[UUID, ...]
    vectors: Vectors
    chunk_ids: tuple[UUID, ...]
    buckets: NDArray[np.int64]

    def in_bucket_below(self, limit: int) -> NDArray[np.bool_]:
        """Return the mask of the chunks that a filter `bucket < limit` selects."""
        return np.repeat(self.buckets < limit, len(self.chunk_ids) // len(self.buckets))


async def write_corpus(
    conn: Connection, workspace_id: UUID, vectors: Vectors, *, chunks_per_document: int, space: EmbeddingSpace
) -> Corpus:
    """Write ready documents with these vectors, and texts with a realistic word distribution."""
    documents = len(vectors.values) // chunks_per_document
    random = np.random.default_rng(7)
    collection_ids = [new_id() for _ in range(TOPICS)]
    corpus = Corpus(
        workspace_id,
        tuple(collection_ids),
        vectors,
        tuple(new_id() for _ in vectors.values),
        random.integers(BUCKETS, size=documents),
    )
    async with conn.transaction():
        # The pool's timeout is too short for this load, and only the owner can COPY and create an index.
        await conn.execute("SET LOCAL statement_timeout = 0")
        await conn.execute("SET LOCAL ROLE NONE")
        for topic, collection_id in enumerate(collection_ids):
            await insert_collection(conn, workspace_id, collection_id, name=f"topic {topic}")
        ids = [(new_id(), new_id(), new_id()) for _ in range(documents)]
        await _write_documents(conn, corpus, ids, chunks_per_document=chunks_per_document)
        await conn.execute(INSERT_SIZES, workspace_id)
        index, definition = await conn.fetchrow(FIND_INDEX, space.table) or ("", "")
        await conn.execute(f"DROP INDEX {index}")
        rows = list(_chunk_rows(corpus, ids, chunks_per_document))
        await conn.copy_records_to_table(
            space.table,
            columns=("workspace_id", "chunk_id", "document_id", "collection_id", "build_id", "embedding"),
            records=((workspace_id, *row, vector) for row, vector in zip(rows, vectors.values, strict=True)),
            timeout=LOAD_TIMEOUT_S,
        )
        await conn.execute(COPIED)
        texts = _texts(len(rows), random)
        await conn.copy_records_to_table(
            "copied",
            records=((*row, n % chunks_per_document, next(texts)) for n, row in enumerate(rows)),
            timeout=LOAD_TIMEOUT_S,
        )
        await conn.execute(INSERT_TEXTS, workspace_id, WORDS_PER_CHUNK, timeout=LOAD_TIMEOUT_S)
        await conn.execute("SET LOCAL maintenance_work_mem = '2GB'")
        await conn.execute(definition, timeout=LOAD_TIMEOUT_S)
    await conn.execute("SET ROLE NONE")
    for table in (space.table, "chunk_text", "documents", "collection_sizes"):
        await conn.execute(f"VACUUM ANALYZE {table}", timeout=LOAD_TIMEOUT_S)
    await conn.execute(ENTER_SYSTEM)
    return corpus


async def _write_documents(
    conn: Connection, corpus: Corpus, ids: list[tuple[UUID, UUID, UUID]], *, chunks_per_document: int
) -> None:
    topics = corpus.vectors.topics[::chunks_per_document]
    workspace_id = corpus.workspace_id
    await conn.copy_records_to_table(
        "files",
        columns=FILE_COLUMNS,
        records=(
            (workspace_id, file_id, file_id, "", "a.txt", "text/plain", 1, hashlib.sha256(file_id.bytes).digest(), "")
            for _, file_id, _ in ids
        ),
    )
    await conn.copy_records_to_table(
        "documents",
        columns=DOCUMENT_COLUMNS,
        records=(
            (
                workspace_id,
                document_id,
                corpus.collection_ids[topic],
                file_id,
                "ready",
                1,
                build_id,
                {"bucket": int(bucket), "topic": int(topic)},
                chunks_per_document,
                chunks_per_document * WORDS_PER_CHUNK,
            )
            for (document_id, file_id, build_id), topic, bucket in zip(ids, topics, corpus.buckets, strict=True)
        ),
    )


def _chunk_rows(
    corpus: Corpus, ids: list[tuple[UUID, UUID, UUID]], chunks_per_document: int
) -> Iterator[tuple[UUID, UUID, UUID, UUID]]:
    for number, chunk_id in enumerate(corpus.chunk_ids):
        document_id, _, build_id = ids[number // chunks_per_document]
        yield chunk_id, document_id, corpus.collection_ids[corpus.vectors.topics[number]], build_id


def _texts(count: int, random: np.random.Generator) -> Iterator[str]:
    shares = 1 / np.arange(1, VOCABULARY + 1) ** ZIPF
    borders = np.cumsum(shares / shares.sum())
    for _ in range(count):
        yield " ".join(map(spell, np.searchsorted(borders, random.random(WORDS_PER_CHUNK))))


def spell(word: int) -> str:
    """Return the word with this frequency rank, in a form that no stemmer shortens."""
    return f"w{word}"
