"""Rows of a workspace in all tables, which its deletion removes in batches and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

# The tables of each store of a receipt; a table that refers to another one comes first.
STORES: dict[str, tuple[str, ...]] = {
    "chat_messages": ("chat_messages",),
    "runs": ("chat_runs",),
    "chat_sessions": ("chat_sessions",),
    "uploads": ("upload_sessions", "upload_tokens"),
    "files": ("files",),
    "idempotent_answers": ("idempotency_keys",),
    "bulk_operations": ("bulk_operations",),
    "webhooks": ("webhooks",),
    "usage": ("model_usage", "embedding_usage"),
}
# Removed with the documents, or together with the workspace's own row.
OTHER_TABLES = ("documents", "canonical_text", "chunk_text", "collections", "collection_sizes", "api_keys", "jobs")
# These outlive the workspace.
LASTING_TABLES = ("deletion_receipts", "audit_events")

DELETE_ROWS = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE workspace_id = $1 LIMIT $2))
"""

COUNT_ROWS = "SELECT count(*) FROM {table} WHERE workspace_id = $1"

# Deletions of single documents and collections that have not completed yet still have to write their receipts.
_ENDING = """
FROM jobs WHERE workspace_id = $1 AND id <> $2
    AND NOT (kind = 'delete' AND status IN ('queued', 'running', 'dead'))
"""

DELETE_WORKSPACE_JOBS = f"DELETE FROM jobs WHERE ctid = ANY (ARRAY(SELECT ctid {_ENDING} LIMIT $3))"

COUNT_WORKSPACE_JOBS = f"SELECT count(*) {_ENDING}"


async def delete_rows(conn: Connection, workspace_id: UUID, *, table: str, limit: int) -> int:
    """Remove at most `limit` rows of the workspace from a table of STORES and return their number."""
    status = await conn.execute(DELETE_ROWS.format(table=table), workspace_id, limit)
    return int(status.removeprefix("DELETE "))


async def delete_jobs(conn: Connection, workspace_id: UUID, *, except_id: UUID, limit: int) -> int:
    """Remove at most `limit` of the workspace's jobs, except one and unfinished deletions; return their number."""
    status = await conn.execute(DELETE_WORKSPACE_JOBS, workspace_id, except_id, limit)
    return int(status.removeprefix("DELETE "))


async def count_rows(conn: Connection, workspace_id: UUID, *, except_job_id: UUID) -> dict[str, int]:
    """Return how many rows of the workspace remain in each store."""
    left = {
        store: sum([await conn.fetchval(COUNT_ROWS.format(table=table), workspace_id) for table in tables])
        for store, tables in STORES.items()
    }
    left["jobs"] = await conn.fetchval(COUNT_WORKSPACE_JOBS, workspace_id, except_job_id)
    return left
