"""The table embedding_cache: vectors by the hash of their input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.connections.pool import halfvec_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from ragsvc.db.connections.pool import Connection

# `last_used` is updated at most once a day, so that a hit rarely rewrites a row. Rows locked by another reader are
# skipped, since it updates them too, and waiting for its locks could deadlock.
SELECT_CACHED_EMBEDDINGS = """
WITH touched AS (
    UPDATE embedding_cache SET last_used = now() WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM embedding_cache
        WHERE space_id = $1 AND scope = $2 AND embedding_input_hash = ANY($3::bytea[])
          AND last_used < now() - interval '1 day'
        FOR NO KEY UPDATE SKIP LOCKED))
)
SELECT embedding_input_hash, embedding FROM embedding_cache
WHERE space_id = $1 AND scope = $2 AND embedding_input_hash = ANY($3::bytea[]) AND l2_norm(embedding) >= 0.001
"""

# Inserted in key order, so that two writers of the same vectors cannot deadlock. Vectors without length, which earlier
# versions cached, are replaced.
INSERT_CACHED_EMBEDDINGS = """
INSERT INTO embedding_cache (space_id, scope, embedding_input_hash, embedding)
SELECT $1, $2, v.hash, v.embedding FROM unnest($3::bytea[], $4::halfvec[]) AS v (hash, embedding) ORDER BY v.hash
ON CONFLICT (space_id, scope, embedding_input_hash) DO UPDATE SET embedding = excluded.embedding
    WHERE l2_norm(embedding_cache.embedding) < 0.001
"""

DELETE_UNUSED_EMBEDDINGS = """
DELETE FROM embedding_cache WHERE ctid IN (
    SELECT ctid FROM embedding_cache WHERE last_used < now() - make_interval(days => $1) LIMIT $2)
"""

DELETE_SCOPE = """
DELETE FROM embedding_cache WHERE ctid IN (SELECT ctid FROM embedding_cache WHERE scope = $1 LIMIT $2)
"""


async def select_cached_embeddings(
    conn: Connection, *, space_id: int, scope: UUID, hashes: Sequence[bytes]
) -> dict[bytes, NDArray[np.float16]]:
    """Return the cached vectors by hash."""
    rows = await conn.fetch(SELECT_CACHED_EMBEDDINGS, space_id, scope, list(hashes))
    return {row["embedding_input_hash"]: row["embedding"] for row in rows}


async def insert_cached_embeddings(
    conn: Connection, *, space_id: int, scope: UUID, vectors: Mapping[bytes, NDArray[np.float32]]
) -> None:
    """Cache vectors by hash; existing ones are unchanged."""
    await conn.execute(INSERT_CACHED_EMBEDDINGS, space_id, scope, list(vectors.keys()), halfvec_array(vectors.values()))


async def delete_unused_embeddings(conn: Connection, *, days: int, limit: int) -> int:
    """Remove at most `limit` vectors that have not been used for `days` days and return their number."""
    status = await conn.execute(DELETE_UNUSED_EMBEDDINGS, days, limit)
    return int(status.removeprefix("DELETE "))


async def delete_scope(conn: Connection, *, scope: UUID, limit: int) -> int:
    """Remove at most `limit` vectors of a workspace's own cache and return their number."""
    status = await conn.execute(DELETE_SCOPE, scope, limit)
    return int(status.removeprefix("DELETE "))
