"""The table bulk_operations, and selection of the documents of an operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.documents import GOING_COLLECTIONS
from ragsvc.domain.bulk import BulkAction, BulkOperation, BulkSelection, BulkStatus
from ragsvc.domain.documents import DocumentStatus, FailureInfo

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record
    from ragsvc.db.search.scope import AttributeCondition

COLUMNS = """
workspace_id, id, action, collection_id, document_status, filters, purge_file, status, matched, accepted, skipped,
after_id, error, created_at, completed_at
"""

# `$1` is the workspace, `$2` the collection, `$3` the status, `$4` attributes to contain, `$5` a jsonpath predicate and
# `$6` its variables.
_MATCHING = f"""
FROM documents d
WHERE d.workspace_id = $1 AND d.status <> 'deleting' AND d.collection_id <> ALL ({GOING_COLLECTIONS})
  AND ($2::uuid IS NULL OR d.collection_id = $2)
  AND ($3::text IS NULL OR d.status = $3)
  AND ($4::jsonb IS NULL OR d.attributes @> $4)
  AND ($5::text IS NULL OR jsonb_path_match(d.attributes, $5::text::jsonpath, $6::jsonb))
"""

COUNT_MATCHING = f"SELECT count(*)::integer {_MATCHING}"

SELECT_MATCHING = f"""
SELECT d.id {_MATCHING} AND d.created_at < $7::timestamptz AND ($8::uuid IS NULL OR d.id > $8) ORDER BY d.id LIMIT $9
"""

INSERT_BULK_OPERATION = f"""
INSERT INTO bulk_operations
    (workspace_id, id, action, collection_id, document_status, filters, purge_file, matched, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp())
RETURNING {COLUMNS}
"""

SELECT_BULK_OPERATION = f"SELECT {COLUMNS} FROM bulk_operations WHERE workspace_id = $1 AND id = $2"

SELECT_BULK_OPERATIONS = f"""
SELECT {COLUMNS} FROM bulk_operations WHERE workspace_id = $1 AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
"""

UPDATE_BULK_STATE = """
UPDATE bulk_operations SET status = $3, error = $4 WHERE workspace_id = $1 AND id = $2 AND status <> 'completed'
"""

ADVANCE_BULK_OPERATION = """
UPDATE bulk_operations SET after_id = $3, accepted = accepted + $4::integer, skipped = skipped + 1 - $4::integer
WHERE workspace_id = $1 AND id = $2
"""

COMPLETE_BULK_OPERATION = """
UPDATE bulk_operations SET status = 'completed', error = NULL, completed_at = now(),
    skipped = greatest(skipped, matched - accepted)
WHERE workspace_id = $1 AND id = $2
"""

DELETE_ENDED_OPERATIONS = """
DELETE FROM bulk_operations WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM bulk_operations
    WHERE status IN ('completed', 'failed') AND coalesce(completed_at, created_at) < now() - make_interval(days => $1)
    LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


async def count_matching(
    conn: Connection, workspace_id: UUID, selection: BulkSelection, attributes: AttributeCondition
) -> int:
    """Return the number of matching documents."""
    counted: int = await conn.fetchval(COUNT_MATCHING, *_arguments(workspace_id, selection, attributes))
    return counted


async def select_matching(
    conn: Connection, operation: BulkOperation, attributes: AttributeCondition, *, after: UUID | None, limit: int
) -> list[UUID]:
    """Return the next matching documents that existed when the operation was accepted, in id order."""
    arguments = _arguments(operation.workspace_id, operation.selection, attributes)
    return [row["id"] for row in await conn.fetch(SELECT_MATCHING, *arguments, operation.created_at, after, limit)]


async def insert_bulk_operation(
    conn: Connection,
    workspace_id: UUID,
    operation_id: UUID,
    *,
    action: BulkAction,
    selection: BulkSelection,
    purge_file: bool,
    matched: int,
) -> BulkOperation:
    """Add an operation; a job executes it.

    Its time of creation comes from Postgres's clock, like those of documents: the clocks of API processes differ.
    """
    row = await conn.fetchrow(
        INSERT_BULK_OPERATION,
        workspace_id,
        operation_id,
        action,
        selection.collection_id,
        selection.document_status,
        selection.filters,
        purge_file,
        matched,
    )
    assert row is not None  # noqa: S101 - INSERT … RETURNING returns a row
    return _to_operation(row)


async def select_bulk_operation(conn: Connection, workspace_id: UUID, operation_id: UUID) -> BulkOperation | None:
    """Return an operation of the workspace."""
    row = await conn.fetchrow(SELECT_BULK_OPERATION, workspace_id, operation_id)
    return _to_operation(row) if row else None


async def select_bulk_operations(
    conn: Connection, workspace_id: UUID, *, before: UUID | None, limit: int
) -> list[BulkOperation]:
    """Return at most `limit` operations, newest first, older than `before` if given."""
    return [_to_operation(row) for row in await conn.fetch(SELECT_BULK_OPERATIONS, workspace_id, before, limit)]


async def update_bulk_state(
    conn: Connection, workspace_id: UUID, operation_id: UUID, *, status: BulkStatus, error: FailureInfo | None
) -> None:
    """Set the status and error of an operation; a completed one is unchanged."""
    await conn.execute(UPDATE_BULK_STATE, workspace_id, operation_id, status, error.to_json() if error else None)


async def advance_bulk_operation(
    conn: Connection, operation: BulkOperation, *, document_id: UUID, is_accepted: bool
) -> None:
    """Count a document in the transaction that queues its job, so that a resumed operation continues after it."""
    await conn.execute(ADVANCE_BULK_OPERATION, operation.workspace_id, operation.id, document_id, int(is_accepted))


async def complete_bulk_operation(conn: Connection, operation: BulkOperation) -> None:
    """Mark an operation as completed; documents deleted in the meantime count as skipped."""
    await conn.execute(COMPLETE_BULK_OPERATION, operation.workspace_id, operation.id)


async def delete_ended_operations(conn: Connection, *, days: int, limit: int) -> int:
    """Remove operations that ended more than `days` days ago and return their number."""
    return int((await conn.execute(DELETE_ENDED_OPERATIONS, days, limit)).removeprefix("DELETE "))


def _arguments(workspace_id: UUID, selection: BulkSelection, attributes: AttributeCondition) -> tuple[object, ...]:
    return (
        workspace_id,
        selection.collection_id,
        selection.document_status,
        attributes.contains,
        attributes.path,
        attributes.variables or {},
    )


def _to_operation(row: Record) -> BulkOperation:
    status = row["document_status"]
    return BulkOperation(
        workspace_id=row["workspace_id"],
        id=row["id"],
        action=BulkAction(row["action"]),
        selection=BulkSelection(
            collection_id=row["collection_id"],
            document_status=DocumentStatus(status) if status else None,
            filters=row["filters"],
        ),
        purge_file=row["purge_file"],
        status=BulkStatus(row["status"]),
        matched=row["matched"],
        accepted=row["accepted"],
        skipped=row["skipped"],
        after_id=row["after_id"],
        error=FailureInfo.from_json(row["error"]) if row["error"] else None,
        created_at=row["created_at"],
        completed_at=row["completed_at"],
    )
