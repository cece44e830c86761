"""The table embedding_cache: vectors by the hash of their input, and marks of workspaces that have paid for one.

A mark is a row of the workspace without a vector. With EMBEDDING_CACHE_SCOPE=workspace there are no marks: each vector
belongs to the workspace that has paid for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.db.connections.pool import halfvec_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from ragsvc.db.connections.pool import Connection

# Vectors of earlier versions, whose tokens are unknown, are returned only if the workspace has paid for them.
# `last_used` is updated at most once a day, so that a hit rarely rewrites a row. Rows locked by another reader are
# skipped, since it updates them too, and waiting for its locks could deadlock.
SELECT_CACHED_EMBEDDINGS = """
WITH touched AS (
    UPDATE embedding_cache SET last_used = now() WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM embedding_cache
        WHERE space_id = $1 AND scope IN ($2, $4) AND embedding_input_hash = ANY($3::bytea[])
          AND last_used < now() - interval '1 day'
        FOR NO KEY UPDATE SKIP LOCKED))
)
SELECT v.embedding_input_hash, v.embedding, v.prompt_tokens, v.scope = $4 OR EXISTS (
    SELECT FROM embedding_cache m
    WHERE m.space_id = $1 AND m.scope = $4 AND m.embedding_input_hash = v.embedding_input_hash) AS is_paid
FROM embedding_cache v
WHERE v.space_id = $1 AND v.scope = $2 AND v.embedding_input_hash = ANY($3::bytea[]) AND l2_norm(v.embedding) >= 0.001
"""

# Inserted in key order, so that two writers of the same vectors cannot deadlock. Vectors without length, which earlier
# versions cached, are replaced.
INSERT_CACHED_EMBEDDINGS = """
INSERT INTO embedding_cache (space_id, scope, embedding_input_hash, embedding, prompt_tokens)
SELECT $1, $2, v.hash, v.embedding, v.prompt_tokens
FROM unnest($3::bytea[], $4::halfvec[], $5::integer[]) AS v (hash, embedding, prompt_tokens) ORDER BY v.hash
ON CONFLICT (space_id, scope, embedding_input_hash) DO UPDATE
    SET embedding = excluded.embedding, prompt_tokens = excluded.prompt_tokens
    WHERE embedding_cache.prompt_tokens IS NULL OR l2_norm(embedding_cache.embedding) < 0.001
"""

INSERT_MARKS = """
INSERT INTO embedding_cache (space_id, scope, embedding_input_hash)
SELECT $1, $2, hash FROM unnest($3::bytea[]) AS hash ORDER BY hash
ON CONFLICT (space_id, scope, embedding_input_hash) DO NOTHING
"""

# Locked before they are checked in a further statement: of two transactions that each remove a chunk of the same text,
# the second one then sees that no chunk is left.
LOCK_MARKS = """
SELECT m.space_id, m.embedding_input_hash
FROM embedding_spaces s CROSS JOIN unnest($2::bytea[]) AS removed (hash)
JOIN embedding_cache m ON m.space_id = s.id AND m.scope = $1 AND m.embedding_input_hash = removed.hash
WHERE m.embedding IS NULL ORDER BY m.space_id, m.embedding_input_hash FOR UPDATE OF m
"""

DELETE_MARKS = """
DELETE FROM embedding_cache m USING unnest($2::smallint[], $3::bytea[]) AS locked (space_id, hash)
WHERE m.space_id = locked.space_id AND m.scope = $1 AND m.embedding_input_hash = locked.hash AND m.embedding IS NULL
  AND NOT EXISTS (SELECT FROM chunk_text c WHERE c.workspace_id = $1 AND c.embedding_input_hash = locked.hash)
"""

DELETE_UNUSED_EMBEDDINGS = """
DELETE FROM embedding_cache WHERE ctid IN (
    SELECT ctid FROM embedding_cache WHERE last_used < now() - make_interval(days => $1) LIMIT $2)
"""

DELETE_SCOPE = """
DELETE FROM embedding_cache WHERE ctid IN (SELECT ctid FROM embedding_cache WHERE scope = $1 LIMIT $2)
"""


@dataclass(frozen=True, slots=True)
class CachedEmbedding:
    """A cached vector, and whether the workspace has paid for it; `prompt_tokens` as in the table."""

    vector: NDArray[np.floating]
    prompt_tokens: int | None
    is_paid: bool


async def select_cached_embeddings(
    conn: Connection, workspace_id: UUID, *, space_id: int, scope: UUID, hashes: Sequence[bytes]
) -> dict[bytes, CachedEmbedding]:
    """Return the cached vectors by hash."""
    rows = await conn.fetch(SELECT_CACHED_EMBEDDINGS, space_id, scope, list(hashes), workspace_id)
    return {
        row["embedding_input_hash"]: CachedEmbedding(row["embedding"], row["prompt_tokens"], row["is_paid"])
        for row in rows
    }


async def insert_cached_embeddings(
    conn: Connection,
    *,
    space_id: int,
    scope: UUID,
    vectors: Mapping[bytes, NDArray[np.float32]],
    prompt_tokens: Sequence[int],
) -> None:
    """Cache vectors by hash, with the tokens of each text; existing ones are unchanged."""
    await conn.execute(
        INSERT_CACHED_EMBEDDINGS,
        space_id,
        scope,
        list(vectors.keys()),
        halfvec_array(vectors.values()),
        list(prompt_tokens),
    )


async def insert_marks(conn: Connection, workspace_id: UUID, *, space_id: int, hashes: Sequence[bytes]) -> None:
    """Mark that the workspace has paid for these texts."""
    await conn.execute(INSERT_MARKS, space_id, workspace_id, list(hashes))


async def delete_marks(conn: Connection, workspace_id: UUID, *, hashes: Sequence[bytes]) -> None:
    """Remove the marks of texts of which the workspace has no chunk any more, in the transaction that removed them."""
    locked = await conn.fetch(LOCK_MARKS, workspace_id, list(hashes)) if hashes else []
    if locked:
        spaces = [row["space_id"] for row in locked]
        await conn.execute(DELETE_MARKS, workspace_id, spaces, [row["embedding_input_hash"] for row in locked])


async def delete_unused_embeddings(conn: Connection, *, days: int, limit: int) -> int:
    """Remove at most `limit` vectors that have not been used for `days` days and return their number."""
    status = await conn.execute(DELETE_UNUSED_EMBEDDINGS, days, limit)
    return int(status.removeprefix("DELETE "))


async def delete_scope(conn: Connection, *, scope: UUID, limit: int) -> int:
    """Remove at most `limit` vectors of a workspace's own cache and return their number."""
    status = await conn.execute(DELETE_SCOPE, scope, limit)
    return int(status.removeprefix("DELETE "))
