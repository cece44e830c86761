"""The table collections; only the deletion code can see collections that are being deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.connections.pool import UniqueViolation
from ragsvc.domain.collections import Chunking, Collection
from ragsvc.errors.requests import NameTaken

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record

COLUMNS = """
workspace_id, id, name, is_default, chunk_max_tokens, chunk_overlap_tokens, metadata, created_at, updated_at
"""

INSERT_COLLECTION = f"""
INSERT INTO collections (workspace_id, id, name, is_default, chunk_max_tokens, chunk_overlap_tokens, metadata)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (workspace_id, name) WHERE deletion_id IS NULL DO NOTHING
RETURNING {COLUMNS}
"""

SELECT_COLLECTION = f"""
SELECT {COLUMNS} FROM collections WHERE workspace_id = $1 AND id = $2 AND deletion_id IS NULL
"""

SELECT_DEFAULT_COLLECTION = f"""
SELECT {COLUMNS} FROM collections WHERE workspace_id = $1 AND is_default AND deletion_id IS NULL
"""

SELECT_COLLECTIONS = f"""
SELECT {COLUMNS} FROM collections
WHERE workspace_id = $1 AND deletion_id IS NULL AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""

SELECT_KNOWN_COLLECTION_IDS = """
SELECT id FROM collections WHERE workspace_id = $1 AND id = ANY($2::uuid[]) AND deletion_id IS NULL
"""

# FOR SHARE waits for a deletion that has locked the row, and makes a later one wait.
PIN_COLLECTION = f"{SELECT_COLLECTION} FOR SHARE"

PIN_DEFAULT_COLLECTION = f"{SELECT_DEFAULT_COLLECTION} FOR SHARE"

LOCK_COLLECTION = "SELECT deletion_id FROM collections WHERE workspace_id = $1 AND id = $2 FOR NO KEY UPDATE"

UPDATE_COLLECTION = f"""
UPDATE collections SET name = coalesce($3, name), metadata = coalesce($4, metadata),
    chunk_max_tokens = CASE WHEN $5 THEN $6 ELSE chunk_max_tokens END,
    chunk_overlap_tokens = CASE WHEN $5 THEN $7 ELSE chunk_overlap_tokens END,
    updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND deletion_id IS NULL
RETURNING {COLUMNS}
"""

UPDATE_COLLECTION_DELETING = """
UPDATE collections SET deletion_id = $3, updated_at = now() WHERE workspace_id = $1 AND id = $2
"""

DELETE_COLLECTION = "DELETE FROM collections WHERE workspace_id = $1 AND id = $2"


async def insert_collection(
    conn: Connection,
    workspace_id: UUID,
    collection_id: UUID,
    *,
    name: str,
    is_default: bool = False,
    chunking: Chunking | None = None,
    metadata: dict[str, object] | None = None,
) -> Collection:
    """Add a collection.

    Raises:
        NameTaken: the workspace already has a collection with this name.
    """
    max_tokens, overlap_tokens = _chunking_columns(chunking)
    row = await conn.fetchrow(
        INSERT_COLLECTION, workspace_id, collection_id, name, is_default, max_tokens, overlap_tokens, metadata or {}
    )
    if row is None:
        raise NameTaken
    return _to_collection(row)


async def select_collection(conn: Connection, workspace_id: UUID, collection_id: UUID) -> Collection | None:
    """Return a collection of the workspace."""
    row = await conn.fetchrow(SELECT_COLLECTION, workspace_id, collection_id)
    return _to_collection(row) if row else None


async def select_default_collection(conn: Connection, workspace_id: UUID) -> Collection | None:
    """Return the default collection; None if the workspace does not exist."""
    row = await conn.fetchrow(SELECT_DEFAULT_COLLECTION, workspace_id)
    return _to_collection(row) if row else None


async def select_collections(
    conn: Connection, workspace_id: UUID, *, before: UUID | None = None, limit: int
) -> list[Collection]:
    """Return at most `limit` collections, newest first, older than `before` if given."""
    return [_to_collection(row) for row in await conn.fetch(SELECT_COLLECTIONS, workspace_id, before, limit)]


async def select_known_collection_ids(
    conn: Connection, workspace_id: UUID, collection_ids: Sequence[UUID]
) -> set[UUID]:
    """Return the given ids that belong to collections of the workspace."""
    rows = await conn.fetch(SELECT_KNOWN_COLLECTION_IDS, workspace_id, list(collection_ids))
    return {row["id"] for row in rows}


async def pin_collection(conn: Connection, workspace_id: UUID, collection_id: UUID) -> Collection | None:
    """Return a collection and prevent its deletion until the transaction ends."""
    row = await conn.fetchrow(PIN_COLLECTION, workspace_id, collection_id)
    return _to_collection(row) if row else None


async def pin_default_collection(conn: Connection, workspace_id: UUID) -> Collection | None:
    """Return the default collection and prevent its deletion until the transaction ends."""
    row = await conn.fetchrow(PIN_DEFAULT_COLLECTION, workspace_id)
    return _to_collection(row) if row else None


async def lock_collection(conn: Connection, workspace_id: UUID, collection_id: UUID) -> tuple[UUID | None] | None:
    """Lock the row and return its deletion id in a 1-tuple; return None if there is no such row."""
    row = await conn.fetchrow(LOCK_COLLECTION, workspace_id, collection_id)
    return (row["deletion_id"],) if row else None


async def update_collection(
    conn: Connection,
    workspace_id: UUID,
    collection_id: UUID,
    *,
    name: str | None = None,
    metadata: dict[str, object] | None = None,
    sets_chunking: bool = False,
    chunking: Chunking | None = None,
) -> Collection | None:
    """Change the given fields, and the chunking if `sets_chunking`; return None if the collection does not exist.

    Raises:
        NameTaken: the workspace has another collection with this name.
    """
    max_tokens, overlap_tokens = _chunking_columns(chunking)
    try:
        row = await conn.fetchrow(
            UPDATE_COLLECTION, workspace_id, collection_id, name, metadata, sets_chunking, max_tokens, overlap_tokens
        )
    except UniqueViolation:
        raise NameTaken from None
    return _to_collection(row) if row else None


async def update_collection_deleting(
    conn: Connection, workspace_id: UUID, collection_id: UUID, *, deletion_id: UUID
) -> None:
    """Mark a collection as being deleted: after the commit, it accepts no documents and its name is available again."""
    await conn.execute(UPDATE_COLLECTION_DELETING, workspace_id, collection_id, deletion_id)


async def delete_collection(conn: Connection, workspace_id: UUID, collection_id: UUID) -> bool:
    """Remove the row; all its documents must already be removed."""
    return await conn.execute(DELETE_COLLECTION, workspace_id, collection_id) == "DELETE 1"


def _chunking_columns(chunking: Chunking | None) -> tuple[int | None, int | None]:
    return (chunking.max_tokens, chunking.overlap_tokens) if chunking else (None, None)


def _to_collection(row: Record) -> Collection:
    return Collection(
        workspace_id=row["workspace_id"],
        id=row["id"],
        name=row["name"],
        is_default=row["is_default"],
        chunking=Chunking(row["chunk_max_tokens"], row["chunk_overlap_tokens"])
        if row["chunk_max_tokens"] is not None
        else None,
        metadata=row["metadata"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
