"""The table upload_tokens, which stores only the SHA-256 of each token; a token is valid only while its API key is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.connections.roles import APP, SETTING
from ragsvc.domain.uploads import UploadToken
from ragsvc.domain.workspaces import Workspace

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.db.connections.sessions import LookupConnection

INSERT_UPLOAD_TOKEN = """
INSERT INTO upload_tokens (workspace_id, id, key_id, token_hash, collection_id, max_bytes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
RETURNING workspace_id, id, key_id, collection_id, max_bytes, expires_at
"""  # noqa: S105 - an SQL statement

DELETE_EXPIRED_TOKENS = "DELETE FROM upload_tokens WHERE workspace_id = $1 AND expires_at <= now()"

# If `$2` is true, the statement also sets the session's scope, like SELECT_KEY_OWNER.
SELECT_TOKEN_OWNER = f"""
SELECT t.*, CASE WHEN $2 THEN
    set_config('role', '{APP}', false) || set_config('{SETTING}', t.workspace_id::text, false) END
FROM find_token_owner($1) t
"""

DELETE_EXPIRED_TOKENS_OF_ALL = """
DELETE FROM upload_tokens WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM upload_tokens WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED))
"""


async def insert_upload_token(
    conn: Connection,
    workspace_id: UUID,
    token_id: UUID,
    *,
    key_id: UUID,
    token_hash: bytes,
    collection_id: UUID,
    max_bytes: int,
    ttl_s: float,
) -> UploadToken:
    """Add a token that is valid for `ttl_s` seconds."""
    row = await conn.fetchrow(
        INSERT_UPLOAD_TOKEN, workspace_id, token_id, key_id, token_hash, collection_id, max_bytes, ttl_s
    )
    assert row is not None  # noqa: S101 - INSERT … RETURNING returns a row
    return UploadToken(**row)


async def delete_expired_tokens(conn: Connection, workspace_id: UUID) -> None:
    """Remove the expired tokens of a workspace."""
    await conn.execute(DELETE_EXPIRED_TOKENS, workspace_id)


async def select_token_owner(lookup: LookupConnection, token_hash: bytes) -> tuple[Workspace, UploadToken] | None:
    """Return the token with this SHA-256 and its workspace; None if it or its key is not valid."""
    row = await lookup.conn.fetchrow(SELECT_TOKEN_OWNER, token_hash, lookup.enters_workspace)
    if row is None:
        return None
    lookup.workspace_id = row["workspace_id"] if lookup.enters_workspace else None
    workspace = Workspace(
        id=row["workspace_id"],
        name=row["name"],
        bucket=row["bucket"],
        key_prefix=row["key_prefix"],
        quota_bytes=row["quota_bytes"],
        created_at=row["created_at"],
    )
    token = UploadToken(**{name: row[name] for name in UploadToken.__dataclass_fields__})
    return workspace, token


async def delete_expired_tokens_of_all(conn: Connection, *, limit: int) -> int:
    """Remove expired tokens of all workspaces and return their number."""
    return int((await conn.execute(DELETE_EXPIRED_TOKENS_OF_ALL, limit)).removeprefix("DELETE "))
