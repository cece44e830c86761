"""The table upload_sessions: every object has a row here before its first byte is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.uploads import Upload, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record

COLUMNS = """
u.workspace_id, u.id, w.bucket, u.status, u.object_key, u.s3_upload_id, u.filename, u.mime_type, u.declared_size_bytes,
u.part_size_bytes, u.sha256, u.collection_id, u.attributes, u.chunking, u.document_id, u.token_key_id,
u.max_bytes, u.error, u.expires_at, u.created_at, u.tus_metadata, u.tail_id
"""
FROM = "FROM upload_sessions u JOIN workspaces w ON w.id = u.workspace_id"

INSERT_UPLOAD = f"""
WITH inserted AS (
    INSERT INTO upload_sessions (workspace_id, id, object_key, filename, mime_type, expires_at, declared_size_bytes,
        part_size_bytes, sha256, collection_id, attributes, chunking, token_key_id, max_bytes, tus_metadata)
    VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6), $7, $8, $9, $10, $11, $12, $13, $14, $15)
    RETURNING *
)
SELECT {COLUMNS} FROM inserted u JOIN workspaces w ON w.id = u.workspace_id
"""

SELECT_UPLOAD = f"SELECT {COLUMNS} {FROM} WHERE u.workspace_id = $1 AND u.id = $2"

# Excludes the internal sessions of files sent in one request.
SELECT_UPLOADS = f"""
SELECT {COLUMNS} {FROM}
WHERE u.workspace_id = $1 AND u.collection_id IS NOT NULL AND ($2::text IS NULL OR u.status = $2)
  AND ($3::uuid IS NULL OR u.id < $3)
ORDER BY u.id DESC LIMIT $4
"""

UPDATE_S3_UPLOAD_ID = """
UPDATE upload_sessions SET s3_upload_id = $3, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'pending'
"""

UPDATE_LEARNED = """
UPDATE upload_sessions SET declared_size_bytes = $3, part_size_bytes = $4, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'pending' AND part_size_bytes IS NULL
"""

# The process that closes a session decides whether its object is used or removed.
CLOSE_UPLOAD = """
UPDATE upload_sessions SET status = $3, completing_until = NULL, document_id = $4, error = $5, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = ANY($6)
"""

# One process at a time completes a session; after its lease has expired, another can take over.
TAKE_COMPLETING = """
UPDATE upload_sessions
SET status = 'completing', completing_until = now() + make_interval(secs => $3), updated_at = now()
WHERE workspace_id = $1 AND id = $2
  AND (status = 'pending' AND expires_at > now() OR status = 'completing' AND completing_until <= now())
"""

RELEASE_COMPLETING = """
UPDATE upload_sessions SET completing_until = now(), updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'completing'
"""

REOPEN_UPLOAD = """
UPDATE upload_sessions SET status = 'pending', completing_until = NULL, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'completing'
"""

# A part that is sent again counts with the difference to its earlier size.
ADD_RECEIVED_BYTES = """
UPDATE upload_sessions SET received_bytes = received_bytes + $3, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'pending' AND ($3 <= 0 OR received_bytes + $3 <= max_bytes)
"""

SUM_RESERVED_BYTES = """
SELECT coalesce(sum(coalesce(declared_size_bytes, received_bytes)), 0)::bigint FROM upload_sessions
WHERE workspace_id = $1 AND status IN ('pending', 'completing')
"""

SELECT_SILENT_UPLOADS = f"""
SELECT {COLUMNS} {FROM}
WHERE u.status = 'completing' AND u.completing_until < now() AND coalesce(u.sweep_after <= now(), true)
ORDER BY u.updated_at LIMIT $1
"""

# Sessions that a request has locked are left for the next sweep, so that no sweep waits for a client.
EXPIRE_UPLOADS = """
UPDATE upload_sessions SET status = 'expired', updated_at = now() WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM upload_sessions WHERE status = 'pending' AND expires_at < now() FOR UPDATE SKIP LOCKED))
"""

SELECT_UNCLEAN_UPLOADS = f"""
SELECT {COLUMNS} {FROM}
WHERE u.status IN ('failed', 'aborted', 'expired') AND u.cleaned_at IS NULL AND coalesce(u.sweep_after <= now(), true)
ORDER BY u.updated_at LIMIT $1
"""

# These rows are deleted because they contain the filename and attributes; their objects belong to the file or are
# cleaned up separately.
DELETE_UPLOADS_OF_DOCUMENTS = "DELETE FROM upload_sessions WHERE workspace_id = $1 AND document_id = ANY($2::uuid[])"

COUNT_UPLOADS_OF_DOCUMENTS = """
SELECT count(*) FROM upload_sessions WHERE workspace_id = $1 AND document_id = ANY($2::uuid[])
"""

POSTPONE_UPLOAD = """
UPDATE upload_sessions SET sweep_after = now() + make_interval(secs => $3) WHERE workspace_id = $1 AND id = $2
"""

UPDATE_CLEANED = "UPDATE upload_sessions SET cleaned_at = now() WHERE workspace_id = $1 AND id = $2"

DELETE_ENDED_UPLOADS = """
DELETE FROM upload_sessions WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM upload_sessions
    WHERE status IN ('failed', 'aborted', 'expired') AND cleaned_at IS NOT NULL
      AND updated_at < now() - make_interval(days => $1)
    LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


async def insert_upload(
    conn: Connection,
    workspace_id: UUID,
    upload_id: UUID,
    *,
    object_key: str,
    filename: str,
    mime_type: str,
    expires_s: float,
    declared_size_bytes: int | None = None,
    part_size_bytes: int | None = None,
    sha256: bytes | None = None,
    collection_id: UUID | None = None,
    attributes: dict[str, object] | None = None,
    chunking: dict[str, int] | None = None,
    token_key_id: UUID | None = None,
    max_bytes: int | None = None,
    tus_metadata: str | None = None,
) -> Upload:
    """Add a pending upload that expires after `expires_s` seconds, and return it."""
    row = await conn.fetchrow(
        INSERT_UPLOAD,
        workspace_id,
        upload_id,
        object_key,
        filename,
        mime_type,
        expires_s,
        declared_size_bytes,
        part_size_bytes,
        sha256,
        collection_id,
        attributes or {},
        chunking,
        token_key_id,
        max_bytes,
        tus_metadata,
    )
    assert row is not None  # noqa: S101 - an INSERT without a conflict clause returns its row
    return _to_upload(row)


async def select_upload(conn: Connection, workspace_id: UUID, upload_id: UUID) -> Upload | None:
    """Return an upload of the workspace."""
    row = await conn.fetchrow(SELECT_UPLOAD, workspace_id, upload_id)
    return _to_upload(row) if row else None


async def select_uploads(
    conn: Connection, workspace_id: UUID, *, status: UploadStatus | None, before: UUID | None, limit: int
) -> list[Upload]:
    """Return at most `limit` sessions opened by clients, newest first, older than `before` if given."""
    return [_to_upload(row) for row in await conn.fetch(SELECT_UPLOADS, workspace_id, status, before, limit)]


async def update_s3_upload_id(conn: Connection, workspace_id: UUID, upload_id: UUID, *, s3_upload_id: str) -> bool:
    """Store the S3 id of the multipart upload; return False if the session is no longer pending."""
    return await conn.execute(UPDATE_S3_UPLOAD_ID, workspace_id, upload_id, s3_upload_id) == "UPDATE 1"


async def update_learned(
    conn: Connection, workspace_id: UUID, upload_id: UUID, *, size_bytes: int, part_size_bytes: int
) -> None:
    """Set the sizes of a pending session if they were unknown."""
    await conn.execute(UPDATE_LEARNED, workspace_id, upload_id, size_bytes, part_size_bytes)


async def close_upload(
    conn: Connection,
    workspace_id: UUID,
    upload_id: UUID,
    *,
    status: UploadStatus,
    document_id: UUID | None = None,
    error: dict[str, str] | None = None,
    among: tuple[UploadStatus, ...] = (UploadStatus.PENDING, UploadStatus.COMPLETING),
) -> bool:
    """End a session that has one of the statuses `among`; return False if it has none of them."""
    status_text = await conn.execute(CLOSE_UPLOAD, workspace_id, upload_id, status, document_id, error, list(among))
    return status_text == "UPDATE 1"


async def take_completing(conn: Connection, workspace_id: UUID, upload_id: UUID, *, lease_s: float) -> bool:
    """Claim a session for completion; return False if it is claimed already or has ended."""
    return await conn.execute(TAKE_COMPLETING, workspace_id, upload_id, lease_s) == "UPDATE 1"


async def release_completing(conn: Connection, workspace_id: UUID, upload_id: UUID) -> None:
    """Release the claim, so that any process can complete the session."""
    await conn.execute(RELEASE_COMPLETING, workspace_id, upload_id)


async def reopen_upload(conn: Connection, workspace_id: UUID, upload_id: UUID) -> None:
    """Accept parts again, because the stored parts do not form the complete file."""
    await conn.execute(REOPEN_UPLOAD, workspace_id, upload_id)


async def add_received_bytes(conn: Connection, workspace_id: UUID, upload_id: UUID, *, added_bytes: int) -> bool:
    """Count bytes of a session whose size is unknown; return False if it has ended or would exceed its limit."""
    return await conn.execute(ADD_RECEIVED_BYTES, workspace_id, upload_id, added_bytes) == "UPDATE 1"


async def sum_reserved_bytes(conn: Connection, workspace_id: UUID) -> int:
    """Return the total size of the workspace's open sessions in bytes: as declared, or as received so far."""
    reserved_bytes: int = await conn.fetchval(SUM_RESERVED_BYTES, workspace_id)
    return reserved_bytes


async def select_silent_uploads(conn: Connection, *, limit: int) -> list[Upload]:
    """Return sessions whose claim for completion has expired."""
    return [_to_upload(row) for row in await conn.fetch(SELECT_SILENT_UPLOADS, limit)]


async def expire_uploads(conn: Connection) -> int:
    """Mark pending sessions past their expiry as expired and return their number."""
    return int((await conn.execute(EXPIRE_UPLOADS)).removeprefix("UPDATE "))


async def select_unclean_uploads(conn: Connection, *, limit: int) -> list[Upload]:
    """Return sessions that ended without a file and have not been cleaned up."""
    return [_to_upload(row) for row in await conn.fetch(SELECT_UNCLEAN_UPLOADS, limit)]


async def postpone_upload(conn: Connection, workspace_id: UUID, upload_id: UUID, *, delay_s: float) -> None:
    """Keep sweeps from selecting the session for `delay_s` seconds."""
    await conn.execute(POSTPONE_UPLOAD, workspace_id, upload_id, delay_s)


async def update_cleaned(conn: Connection, workspace_id: UUID, upload_id: UUID) -> None:
    """Record that nothing of the session is left in the object store."""
    await conn.execute(UPDATE_CLEANED, workspace_id, upload_id)


async def delete_uploads_of_documents(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> int:
    """Remove the sessions of the documents' files and return their number."""
    status = await conn.execute(DELETE_UPLOADS_OF_DOCUMENTS, workspace_id, document_ids)
    return int(status.removeprefix("DELETE "))


async def count_uploads_of_documents(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> int:
    """Return the number of sessions of the documents' files."""
    count: int = await conn.fetchval(COUNT_UPLOADS_OF_DOCUMENTS, workspace_id, document_ids)
    return count


async def delete_ended_uploads(conn: Connection, *, days: int, limit: int) -> int:
    """Remove sessions that ended without a file more than `days` days ago and return their number."""
    return int((await conn.execute(DELETE_ENDED_UPLOADS, days, limit)).removeprefix("DELETE "))


def _to_upload(row: Record) -> Upload:
    return Upload(**{**dict(row.items()), "status": UploadStatus(row["status"])})
