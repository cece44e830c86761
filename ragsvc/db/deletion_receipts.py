"""The table deletion_receipts: requested deletions and the proof of their completion."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from ragsvc.domain.deletions import Deletion, DeletionStatus, StoreReceipt
from ragsvc.domain.documents import FailureInfo
from ragsvc.domain.jobs import SubjectKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record

COLUMNS = """
workspace_id, id, subject_kind, subject_id, purge_file, status, stores, error, requested_at, completed_at, verified_at
"""

INSERT_DELETION = f"""
INSERT INTO deletion_receipts (workspace_id, id, subject_kind, subject_id, purge_file) VALUES ($1, $2, $3, $4, $5)
RETURNING {COLUMNS}
"""

SELECT_DELETION = f"SELECT {COLUMNS} FROM deletion_receipts WHERE workspace_id = $1 AND id = $2"

LOCK_DELETION = f"{SELECT_DELETION} FOR UPDATE"

SELECT_ANY_DELETION = f"SELECT {COLUMNS} FROM deletion_receipts WHERE id = $1"

SELECT_DELETION_OF = f"""
SELECT {COLUMNS} FROM deletion_receipts WHERE workspace_id = $1 AND subject_id = $2 AND subject_kind = $3
"""

SELECT_DELETIONS = f"""
SELECT {COLUMNS} FROM deletion_receipts WHERE workspace_id = $1 AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
"""

UPDATE_DELETION_STATE = """
UPDATE deletion_receipts SET status = $3, error = $4 WHERE workspace_id = $1 AND id = $2 AND status <> 'completed'
"""

ADD_REMOVED = """
UPDATE deletion_receipts
SET removed = jsonb_set(removed, ARRAY[$3], to_jsonb(coalesce((removed ->> $3)::bigint, 0) + $4))
WHERE workspace_id = $1 AND id = $2
"""

# A count is added once per mark, even if the removal that follows is repeated.
ADD_FOUND = """
UPDATE deletion_receipts
SET removed = removed || jsonb_build_object(
    $3::text, coalesce((removed ->> $3)::bigint, 0) + $4::bigint, $3 || '_found', $5::text)
WHERE workspace_id = $1 AND id = $2 AND removed ->> ($3 || '_found') IS DISTINCT FROM $5
"""

SELECT_REMOVED = "SELECT removed FROM deletion_receipts WHERE workspace_id = $1 AND id = $2"

COMPLETE_DELETION = """
UPDATE deletion_receipts SET status = 'completed', stores = $3, error = NULL, completed_at = now(), verified_at = now()
WHERE workspace_id = $1 AND id = $2
"""


async def insert_deletion(
    conn: Connection,
    workspace_id: UUID,
    deletion_id: UUID,
    *,
    subject_kind: SubjectKind,
    subject_id: UUID,
    purge_file: bool,
) -> Deletion:
    """Add a pending deletion."""
    row = await conn.fetchrow(INSERT_DELETION, workspace_id, deletion_id, subject_kind, subject_id, purge_file)
    assert row is not None  # noqa: S101 - INSERT … RETURNING returns a row
    return _to_deletion(row)


async def select_deletion(conn: Connection, workspace_id: UUID, deletion_id: UUID) -> Deletion | None:
    """Return a deletion of the workspace."""
    row = await conn.fetchrow(SELECT_DELETION, workspace_id, deletion_id)
    return _to_deletion(row) if row else None


async def lock_deletion(conn: Connection, workspace_id: UUID, deletion_id: UUID) -> Deletion | None:
    """Return a deletion of the workspace and lock its row until the transaction ends."""
    row = await conn.fetchrow(LOCK_DELETION, workspace_id, deletion_id)
    return _to_deletion(row) if row else None


async def select_any_deletion(conn: Connection, deletion_id: UUID) -> Deletion | None:
    """Return a deletion of any workspace, even a deleted one; for operators."""
    row = await conn.fetchrow(SELECT_ANY_DELETION, deletion_id)
    return _to_deletion(row) if row else None


async def select_deletion_of(
    conn: Connection, workspace_id: UUID, *, subject_kind: SubjectKind, subject_id: UUID
) -> Deletion | None:
    """Return the deletion of a document, collection or workspace; there is at most one."""
    row = await conn.fetchrow(SELECT_DELETION_OF, workspace_id, subject_id, subject_kind)
    return _to_deletion(row) if row else None


async def select_deletions(
    conn: Connection, workspace_id: UUID, *, before: UUID | None = None, limit: int
) -> list[Deletion]:
    """Return at most `limit` deletions, newest first, older than `before` if given."""
    return [_to_deletion(row) for row in await conn.fetch(SELECT_DELETIONS, workspace_id, before, limit)]


async def update_deletion_state(
    conn: Connection, workspace_id: UUID, deletion_id: UUID, *, status: DeletionStatus, error: FailureInfo | None = None
) -> None:
    """Set the status and error of a deletion; a completed one is unchanged."""
    await conn.execute(UPDATE_DELETION_STATE, workspace_id, deletion_id, status, error.to_json() if error else None)


async def add_removed(conn: Connection, workspace_id: UUID, deletion_id: UUID, *, store: str, count: int) -> None:
    """Add to the count of removed items, in the transaction that removes them, so that retries count correctly."""
    await conn.execute(ADD_REMOVED, workspace_id, deletion_id, store, count)


async def add_found(
    conn: Connection, workspace_id: UUID, deletion_id: UUID, *, store: str, count: int, mark: str = "true"
) -> None:
    """Count items before their removal if both cannot share a transaction; each mark counts only once."""
    await conn.execute(ADD_FOUND, workspace_id, deletion_id, store, count, mark)


async def select_removed(conn: Connection, workspace_id: UUID, deletion_id: UUID) -> dict[str, int]:
    """Return the counts so far, by store."""
    counts: dict[str, int] | None = await conn.fetchval(SELECT_REMOVED, workspace_id, deletion_id)
    return counts or {}


async def complete_deletion(
    conn: Connection, workspace_id: UUID, deletion_id: UUID, *, stores: Sequence[StoreReceipt]
) -> None:
    """Complete a deletion and store its receipt."""
    await conn.execute(COMPLETE_DELETION, workspace_id, deletion_id, [asdict(store) for store in stores])


def _to_deletion(row: Record) -> Deletion:
    values = dict(row.items())
    return Deletion(
        **{
            **values,
            "subject_kind": SubjectKind(values["subject_kind"]),
            "status": DeletionStatus(values["status"]),
            "stores": tuple(_to_store(store) for store in values["stores"]),
            "error": FailureInfo.from_json(values["error"]) if values["error"] else None,
        }
    )


def _to_store(stored: dict[str, str | int | None]) -> StoreReceipt:
    moment = stored.get("retained_until")
    return StoreReceipt(
        **{**stored, "retained_until": datetime.fromisoformat(moment) if isinstance(moment, str) else None}  # type: ignore[arg-type]
    )
