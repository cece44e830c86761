"""Verifies deletions: counts the rows left over from a document, collection or workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.documents import EmbeddingSpace

# `$2` is a document, `$3` a collection; if both are null, the whole workspace is counted.
COUNT_LEFTOVERS = """
SELECT
    (SELECT count(*) FROM chunk_text WHERE workspace_id = $1
        AND ($2::uuid IS NULL OR document_id = $2) AND ($3::uuid IS NULL OR collection_id = $3)) AS chunks,
    (SELECT count(*) FROM canonical_text t WHERE t.workspace_id = $1
        AND ($2::uuid IS NULL OR t.document_id = $2)
        AND ($3::uuid IS NULL OR t.document_id IN (
            SELECT id FROM documents WHERE workspace_id = $1 AND collection_id = $3))) AS canonical_text,
    (SELECT count(*) FROM documents WHERE workspace_id = $1
        AND ($2::uuid IS NULL OR id = $2) AND ($3::uuid IS NULL OR collection_id = $3)) AS documents
"""

COUNT_VECTORS_LEFT = """
SELECT count(*) FROM {table} WHERE workspace_id = $1
    AND ($2::uuid IS NULL OR document_id = $2) AND ($3::uuid IS NULL OR collection_id = $3)
"""


async def count_leftovers(
    conn: Connection,
    workspace_id: UUID,
    *,
    document_id: UUID | None,
    collection_id: UUID | None,
    spaces: Sequence[EmbeddingSpace],
) -> dict[str, int]:
    """Return the number of remaining rows by store: chunks, vectors, canonical_text and documents."""
    row = await conn.fetchrow(COUNT_LEFTOVERS, workspace_id, document_id, collection_id)
    left: dict[str, int] = dict(row.items()) if row else {}
    left["vectors"] = 0
    for space in spaces:
        statement = COUNT_VECTORS_LEFT.format(table=space.table)
        left["vectors"] += await conn.fetchval(statement, workspace_id, document_id, collection_id)
    return left
