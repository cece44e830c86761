"""The table api_keys, which stores only the SHA-256 of each key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.db.connections.roles import APP, SETTING
from ragsvc.domain.workspaces import ApiKey, Scope, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record
    from ragsvc.db.connections.sessions import LookupConnection

COLUMNS = "workspace_id, id, name, key_prefix, scopes, expires_at, revoked_at, replaced_by, last_used_at, created_at"

INSERT_API_KEY = f"""
INSERT INTO api_keys (workspace_id, id, name, key_hash, key_prefix, scopes, expires_at)
SELECT id, $2, $3, $4, $5, $6::text[], $7 FROM workspaces WHERE id = $1 AND deletion_id IS NULL FOR KEY SHARE
RETURNING {COLUMNS}
"""

# If `$2` is true, the same statement also sets the session's scope to the workspace of the key.
SELECT_KEY_OWNER = f"""
SELECT k.*, k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute' AS is_use_due,
    CASE WHEN $2 THEN set_config('role', '{APP}', false) || set_config('{SETTING}', k.workspace_id::text, false) END
FROM find_key_owner($1) k
"""

SELECT_API_KEYS = f"""
SELECT {COLUMNS} FROM api_keys
WHERE workspace_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""

SELECT_API_KEY = f"SELECT {COLUMNS} FROM api_keys WHERE workspace_id = $1 AND id = $2 AND revoked_at IS NULL"

IS_KEY_VALID = "SELECT is_key_valid($1, $2)"

# The successor gets the same lifetime that the key was created with.
ROTATE_API_KEY = f"""
WITH old AS (
    SELECT k.* FROM api_keys k JOIN workspaces w ON w.id = k.workspace_id
    WHERE k.workspace_id = $1 AND k.id = $2 AND k.revoked_at IS NULL AND k.replaced_by IS NULL AND w.deletion_id IS NULL
    FOR UPDATE OF k FOR KEY SHARE OF w
), replaced AS (
    UPDATE api_keys k
    SET replaced_by = $3, expires_at = least(old.expires_at, now() + make_interval(secs => $6))
    FROM old WHERE k.workspace_id = old.workspace_id AND k.id = old.id
)
INSERT INTO api_keys (workspace_id, id, name, key_hash, key_prefix, scopes, expires_at)
SELECT workspace_id, $3, name, $4, $5, scopes, coalesce($7, now() + (expires_at - created_at)) FROM old
RETURNING {COLUMNS}
"""

UPDATE_LAST_USE = """
UPDATE api_keys SET last_used_at = now()
WHERE workspace_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""

REVOKE_API_KEY = f"""
UPDATE api_keys SET revoked_at = now() WHERE workspace_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING {COLUMNS}
"""


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """A valid key, its hash and workspace, and whether its last use should be updated."""

    key: ApiKey
    key_hash: bytes
    is_use_due: bool
    workspace: Workspace


DELETE_ENDED_KEYS = """
DELETE FROM api_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM api_keys
    WHERE least(revoked_at, expires_at) IS NOT NULL
      AND least(revoked_at, expires_at) < now() - make_interval(days => $1)
    LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


async def insert_api_key(
    conn: Connection,
    workspace_id: UUID,
    key_id: UUID,
    *,
    name: str,
    key_hash: bytes,
    key_prefix: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None,
) -> ApiKey | None:
    """Add a key; return None if the workspace does not exist or is being deleted."""
    row = await conn.fetchrow(
        INSERT_API_KEY, workspace_id, key_id, name, key_hash, key_prefix, list(scopes), expires_at
    )
    return _to_api_key(row) if row else None


async def select_key_owner(lookup: LookupConnection, key_hash: bytes) -> KeyOwner | None:
    """Return the owner of the key with this SHA-256; None if the key is not valid or its workspace is being deleted."""
    row = await lookup.conn.fetchrow(SELECT_KEY_OWNER, key_hash, lookup.enters_workspace)
    if row is None:
        return None
    lookup.workspace_id = row["workspace_id"] if lookup.enters_workspace else None
    workspace = Workspace(
        id=row["workspace_id"],
        name=row["workspace_name"],
        bucket=row["bucket"],
        key_prefix=row["object_prefix"],
        quota_bytes=row["quota_bytes"],
        created_at=row["workspace_created_at"],
    )
    return KeyOwner(key=_to_api_key(row), key_hash=row["key_hash"], is_use_due=row["is_use_due"], workspace=workspace)


async def select_api_keys(
    conn: Connection, workspace_id: UUID, *, before: UUID | None = None, limit: int
) -> list[ApiKey]:
    """Return at most `limit` keys that are not revoked, newest first, older than `before` if given."""
    return [_to_api_key(row) for row in await conn.fetch(SELECT_API_KEYS, workspace_id, before, limit)]


async def select_api_key(conn: Connection, workspace_id: UUID, key_id: UUID) -> ApiKey | None:
    """Return a key; None if it is unknown or revoked."""
    row = await conn.fetchrow(SELECT_API_KEY, workspace_id, key_id)
    return _to_api_key(row) if row else None


async def is_key_valid(conn: Connection, workspace_id: UUID, key_id: UUID) -> bool:
    """Return whether the key is neither revoked nor expired, and its workspace not being deleted."""
    return bool(await conn.fetchval(IS_KEY_VALID, workspace_id, key_id))


async def rotate_api_key(
    conn: Connection,
    workspace_id: UUID,
    key_id: UUID,
    *,
    successor_id: UUID,
    key_hash: bytes,
    key_prefix: str,
    overlap_s: float,
    expires_at: datetime | None,
) -> ApiKey | None:
    """Add a successor with the same scopes, and let the old key expire after `overlap_s`, unless it expires earlier.

    Return None if the key is unknown, revoked, or already has a successor.
    """
    row = await conn.fetchrow(
        ROTATE_API_KEY, workspace_id, key_id, successor_id, key_hash, key_prefix, overlap_s, expires_at
    )
    return _to_api_key(row) if row else None


async def update_last_use(conn: Connection, workspace_id: UUID, key_id: UUID) -> None:
    """Record that the key was just used, unless a use was recorded within the last minute."""
    await conn.execute(UPDATE_LAST_USE, workspace_id, key_id)


async def revoke_api_key(conn: Connection, workspace_id: UUID, key_id: UUID) -> ApiKey | None:
    """Revoke the key, effective from the next request; return None if it is unknown or already revoked."""
    row = await conn.fetchrow(REVOKE_API_KEY, workspace_id, key_id)
    return _to_api_key(row) if row else None


async def delete_ended_keys(conn: Connection, *, days: int, limit: int) -> int:
    """Remove keys that were revoked or expired more than `days` days ago and return their number."""
    return int((await conn.execute(DELETE_ENDED_KEYS, days, limit)).removeprefix("DELETE "))


def _to_api_key(row: Record) -> ApiKey:
    return ApiKey(
        workspace_id=row["workspace_id"],
        id=row["id"],
        name=row["name"],
        key_prefix=row["key_prefix"],
        scopes=tuple(Scope(scope) for scope in row["scopes"]),
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        replaced_by=row["replaced_by"],
        last_used_at=row["last_used_at"],
        created_at=row["created_at"],
    )
