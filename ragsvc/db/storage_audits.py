"""Scans of buckets for orphaned objects: their schedule, and the keys that rows refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.workspaces import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

# The due time doubles as a lease: if the process dies or the object store is unavailable, another process retries.
CLAIM_AUDIT = """
UPDATE workspaces SET audit_due_at = now() + make_interval(secs => $1)
WHERE id = (
    SELECT id FROM workspaces WHERE deletion_id IS NULL AND audit_due_at <= now()
    ORDER BY audit_due_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id, name, bucket, key_prefix, quota_bytes, created_at, audit_after
"""

UPDATE_AUDIT = """
UPDATE workspaces SET audit_after = $2, audit_due_at = now() + make_interval(secs => $3) WHERE id = $1
"""

# One statement, so that a session that becomes a file at the same time is found as one or the other.
SELECT_KNOWN_KEYS = """
SELECT object_key, true AS is_open FROM upload_sessions
WHERE workspace_id = $1 AND id = ANY($2) AND status <> 'completed' AND cleaned_at IS NULL
UNION ALL
SELECT object_key, false FROM files WHERE workspace_id = $1 AND upload_id = ANY($2)
"""


async def claim_audit(conn: Connection, *, lease_s: float) -> tuple[Workspace, str] | None:
    """Claim a workspace whose scan is due, for `lease_s` seconds; return it and the key to continue after, or None."""
    row = await conn.fetchrow(CLAIM_AUDIT, lease_s)
    if row is None:
        return None
    values = dict(row.items())
    after: str = values.pop("audit_after")
    return Workspace(**values), after


async def update_audit(conn: Connection, workspace_id: UUID, *, after: str, due_in_s: float) -> None:
    """Store when the next scan is due and the key after which it continues (empty: from the start)."""
    await conn.execute(UPDATE_AUDIT, workspace_id, after, due_in_s)


async def select_known_keys(
    conn: Connection, workspace_id: UUID, upload_ids: Sequence[UUID]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys of sessions that can still be written or cleaned up, and the keys of files."""
    rows = await conn.fetch(SELECT_KNOWN_KEYS, workspace_id, list(upload_ids))
    return (
        frozenset(row["object_key"] for row in rows if row["is_open"]),
        frozenset(row["object_key"] for row in rows if not row["is_open"]),
    )
