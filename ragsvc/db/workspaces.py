"""The table workspaces, one row per tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.workspaces import Workspace
from ragsvc.errors.requests import Unauthorized

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.workspaces import Location

COLUMNS = "id, name, bucket, key_prefix, quota_bytes, created_at"

INSERT_WORKSPACE = f"""
INSERT INTO workspaces (id, name, bucket, key_prefix, quota_bytes) VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}
"""

SELECT_WORKSPACE = f"SELECT {COLUMNS} FROM workspaces WHERE id = $1"

SELECT_WORKSPACES = f"""
SELECT {COLUMNS} FROM workspaces WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2
"""

LOCK_WORKSPACE = "SELECT deletion_id FROM workspaces WHERE id = $1 FOR NO KEY UPDATE"

# Unlike LOCK_WORKSPACE, this lock waits for every transaction that has pinned the workspace.
CLOSE_WORKSPACE = "SELECT deletion_id FROM workspaces WHERE id = $1 FOR UPDATE"

PIN_WORKSPACE = "SELECT id FROM workspaces WHERE id = $1 AND deletion_id IS NULL FOR KEY SHARE"

PIN_WORKSPACE_EXCLUSIVELY = "SELECT id FROM workspaces WHERE id = $1 AND deletion_id IS NULL FOR UPDATE"

UPDATE_WORKSPACE_DELETING = "UPDATE workspaces SET deletion_id = $2 WHERE id = $1"

DELETE_WORKSPACE = "DELETE FROM workspaces WHERE id = $1"


async def insert_workspace(
    conn: Connection, workspace_id: UUID, *, name: str, location: Location, quota_bytes: int | None
) -> Workspace:
    """Add a workspace whose bucket exists."""
    row = await conn.fetchrow(INSERT_WORKSPACE, workspace_id, name, location.bucket, location.key_prefix, quota_bytes)
    assert row is not None  # noqa: S101 - INSERT … RETURNING returns a row
    return Workspace(**row)


async def select_workspace(conn: Connection, workspace_id: UUID) -> Workspace | None:
    """Return a workspace, even if it is being deleted."""
    row = await conn.fetchrow(SELECT_WORKSPACE, workspace_id)
    return Workspace(**row) if row else None


async def select_workspaces(conn: Connection, *, before: UUID | None = None, limit: int) -> list[Workspace]:
    """Return at most `limit` workspaces, newest first, older than `before` if given."""
    return [Workspace(**row) for row in await conn.fetch(SELECT_WORKSPACES, before, limit)]


async def lock_workspace(conn: Connection, workspace_id: UUID) -> tuple[UUID | None] | None:
    """Lock the row and return its deletion id in a 1-tuple; return None if there is no such row."""
    row = await conn.fetchrow(LOCK_WORKSPACE, workspace_id)
    return (row["deletion_id"],) if row else None


async def close_workspace(conn: Connection, workspace_id: UUID) -> tuple[UUID | None] | None:
    """Lock the row like `lock_workspace`, and wait for the transactions that have pinned the workspace."""
    row = await conn.fetchrow(CLOSE_WORKSPACE, workspace_id)
    return (row["deletion_id"],) if row else None


async def pin_workspace(conn: Connection, workspace_id: UUID, *, exclusively: bool = False) -> None:
    """Prevent the acceptance of the workspace's deletion until the transaction ends.

    Every transaction that adds data to a workspace calls this, so that no data arrives after the deletion was accepted.
    With `exclusively`, it also waits for the other transactions that have pinned it, and makes later ones wait.

    Raises:
        Unauthorized: the workspace was deleted or is being deleted, so the caller's key is no longer valid.
    """
    if await conn.fetchval(PIN_WORKSPACE_EXCLUSIVELY if exclusively else PIN_WORKSPACE, workspace_id) is None:
        raise Unauthorized("The workspace has been deleted.")


async def update_workspace_deleting(conn: Connection, workspace_id: UUID, *, deletion_id: UUID) -> None:
    """Mark a workspace as being deleted: once this is committed, its keys are no longer valid."""
    await conn.execute(UPDATE_WORKSPACE_DELETING, workspace_id, deletion_id)


async def delete_workspace(conn: Connection, workspace_id: UUID) -> bool:
    """Remove the row with its keys and sessions; its documents and files must already be removed."""
    return await conn.execute(DELETE_WORKSPACE, workspace_id) == "DELETE 1"
