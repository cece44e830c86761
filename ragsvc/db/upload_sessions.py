"""The table upload_sessions: every object is known here before its first byte reaches the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.models.documents import Upload

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.pool import Connection

COLUMNS = "u.workspace_id, u.id, w.bucket, u.object_key, u.s3_upload_id, u.filename, u.mime_type"
FROM = "FROM upload_sessions u JOIN workspaces w ON w.id = u.workspace_id"

INSERT_UPLOAD = """
INSERT INTO upload_sessions (workspace_id, id, object_key, filename, mime_type, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
"""

SELECT_UPLOAD = f"SELECT {COLUMNS} {FROM} WHERE u.workspace_id = $1 AND u.id = $2"

UPDATE_S3_UPLOAD_ID = """
UPDATE upload_sessions SET s3_upload_id = $3, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'pending'
"""

# Whoever moves a session out of its open states decides what becomes of its object.
CLOSE_UPLOAD = """
UPDATE upload_sessions SET status = $3, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status IN ('pending', 'completing')
"""

EXPIRE_UPLOADS = """
UPDATE upload_sessions SET status = 'expired', updated_at = now()
WHERE status IN ('pending', 'completing') AND expires_at < now()
"""

SELECT_UNCLEAN_UPLOADS = f"""
SELECT {COLUMNS} {FROM}
WHERE u.status IN ('failed', 'aborted', 'expired') AND u.cleaned_at IS NULL ORDER BY u.updated_at LIMIT $1
"""

UPDATE_CLEANED = "UPDATE upload_sessions SET cleaned_at = now() WHERE workspace_id = $1 AND id = $2"


async def insert_upload(
    conn: Connection,
    workspace_id: UUID,
    upload_id: UUID,
    *,
    object_key: str,
    filename: str,
    mime_type: str,
    expires_s: float,
) -> None:
    """Open a pending upload that expires after `expires_s` seconds."""
    await conn.execute(INSERT_UPLOAD, workspace_id, upload_id, object_key, filename, mime_type, expires_s)


async def select_upload(conn: Connection, workspace_id: UUID, upload_id: UUID) -> Upload | None:
    """Return one upload of the workspace."""
    row = await conn.fetchrow(SELECT_UPLOAD, workspace_id, upload_id)
    return Upload(**row) if row else None


async def update_s3_upload_id(conn: Connection, workspace_id: UUID, upload_id: UUID, *, s3_upload_id: str) -> bool:
    """Remember the store's id of the multipart upload; False when the session is no longer pending."""
    return await conn.execute(UPDATE_S3_UPLOAD_ID, workspace_id, upload_id, s3_upload_id) == "UPDATE 1"


async def close_upload(conn: Connection, workspace_id: UUID, upload_id: UUID, *, status: str) -> bool:
    """End an open session; False when it was not open any more."""
    return await conn.execute(CLOSE_UPLOAD, workspace_id, upload_id, status) == "UPDATE 1"


async def expire_uploads(conn: Connection) -> int:
    """End the open sessions that are past their time, and return how many there were."""
    return int((await conn.execute(EXPIRE_UPLOADS)).removeprefix("UPDATE "))


async def select_unclean_uploads(conn: Connection, *, limit: int) -> list[Upload]:
    """Return ended sessions of which the store may still hold something."""
    return [Upload(**row) for row in await conn.fetch(SELECT_UNCLEAN_UPLOADS, limit)]


async def update_cleaned(conn: Connection, workspace_id: UUID, upload_id: UUID) -> None:
    """Remember that the store holds nothing more of the session."""
    await conn.execute(UPDATE_CLEANED, workspace_id, upload_id)
