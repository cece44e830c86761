"""The table files, one row per stored object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.domain.documents import File
from ragsvc.domain.ids import new_id

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

COLUMNS = "workspace_id, id, object_key, filename, mime_type, size_bytes, sha256, created_at"

INSERT_FILE = """
INSERT INTO files (workspace_id, id, upload_id, object_key, filename, mime_type, size_bytes, sha256, etag)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

SELECT_FILE = f"SELECT {COLUMNS} FROM files WHERE workspace_id = $1 AND id = $2 AND deletion_id IS NULL"

SELECT_FILES = f"""
SELECT {COLUMNS} FROM files
WHERE workspace_id = $1 AND deletion_id IS NULL AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""

# Set by the first worker that reads the whole file; later readers compare their hash with it.
UPDATE_SHA256 = "UPDATE files SET sha256 = $3 WHERE workspace_id = $1 AND id = $2 AND sha256 IS NULL"

LOCK_FILE = f"{SELECT_FILE} FOR UPDATE"

# Documents that are being deleted do not prevent the purge.
MARK_FILE_PURGED = """
UPDATE files SET deletion_id = $3
WHERE workspace_id = $1 AND id = $2 AND deletion_id IS NULL AND NOT EXISTS (
    SELECT FROM documents d
    WHERE d.workspace_id = $1 AND (d.file_id = $2 OR d.pending_file_id = $2) AND d.status <> 'deleting')
"""

# Lock the row first, then look for documents in a separate statement, because a single statement that waited for the
# lock would see a snapshot from before the wait.
LOCK_FILE_ROW = "SELECT object_key, deletion_id FROM files WHERE workspace_id = $1 AND id = $2 FOR UPDATE"

# The row is removed together with the last document that refers to it.
DELETE_PURGED_FILE = """
DELETE FROM files WHERE workspace_id = $1 AND id = $2 AND deletion_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM documents d WHERE d.workspace_id = $1 AND (d.file_id = $2 OR d.pending_file_id = $2))
"""

# Excludes files of documents, since a document's deletion removes them itself.
SELECT_RELEASED_FILES = """
SELECT f.workspace_id, f.id, w.bucket, f.object_key
FROM files f JOIN workspaces w ON w.id = f.workspace_id AND w.deletion_id IS NULL
WHERE f.deletion_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM documents d WHERE d.workspace_id = f.workspace_id AND (d.file_id = f.id OR d.pending_file_id = f.id))
  AND coalesce(f.sweep_after <= now(), true)
ORDER BY f.sweep_after NULLS FIRST LIMIT $1
"""

POSTPONE_FILE = """
UPDATE files SET sweep_after = now() + make_interval(secs => $3) WHERE workspace_id = $1 AND id = $2
"""


@dataclass(frozen=True, slots=True)
class ReleasedFile:
    """A file whose object and row must be removed."""

    workspace_id: UUID
    id: UUID
    bucket: str
    object_key: str


async def insert_file(
    conn: Connection,
    workspace_id: UUID,
    file_id: UUID,
    *,
    upload_id: UUID,
    object_key: str,
    filename: str,
    mime_type: str,
    size_bytes: int,
    sha256: bytes | None,
    etag: str,
) -> None:
    """Add a file whose object is complete in the object store."""
    await conn.execute(
        INSERT_FILE, workspace_id, file_id, upload_id, object_key, filename, mime_type, size_bytes, sha256, etag
    )


async def select_file(conn: Connection, workspace_id: UUID, file_id: UUID) -> File | None:
    """Return a file of the workspace."""
    row = await conn.fetchrow(SELECT_FILE, workspace_id, file_id)
    return File(**row) if row else None


async def select_files(conn: Connection, workspace_id: UUID, *, before: UUID | None = None, limit: int) -> list[File]:
    """Return at most `limit` files, newest first, older than `before` if given."""
    return [File(**row) for row in await conn.fetch(SELECT_FILES, workspace_id, before, limit)]


async def update_sha256(conn: Connection, workspace_id: UUID, file_id: UUID, *, sha256: bytes) -> None:
    """Set the SHA-256 of a multipart upload without a declared hash."""
    await conn.execute(UPDATE_SHA256, workspace_id, file_id, sha256)


async def lock_file(conn: Connection, workspace_id: UUID, file_id: UUID) -> File | None:
    """Return a file and prevent others from attaching or deleting it until the transaction ends."""
    row = await conn.fetchrow(LOCK_FILE, workspace_id, file_id)
    return File(**row) if row else None


async def mark_file_purged(conn: Connection, workspace_id: UUID, file_id: UUID, *, deletion_id: UUID) -> bool:
    """Mark a locked file for purging; return False if a document uses it or it is already marked."""
    return await conn.execute(MARK_FILE_PURGED, workspace_id, file_id, deletion_id) == "UPDATE 1"


async def release_file(conn: Connection, workspace_id: UUID, file_id: UUID) -> None:
    """Mark a file for purging unless a document uses it; `select_released_files` then returns it."""
    await lock_file_row(conn, workspace_id, file_id)
    await mark_file_purged(conn, workspace_id, file_id, deletion_id=new_id())


async def lock_file_row(conn: Connection, workspace_id: UUID, file_id: UUID) -> tuple[str, UUID | None] | None:
    """Lock a file; return its object key, and its deletion id if it is marked for purging."""
    row = await conn.fetchrow(LOCK_FILE_ROW, workspace_id, file_id)
    return (row["object_key"], row["deletion_id"]) if row else None


async def select_released_files(conn: Connection, *, limit: int) -> list[ReleasedFile]:
    """Return files that are marked for purging and that no document uses."""
    return [ReleasedFile(**row) for row in await conn.fetch(SELECT_RELEASED_FILES, limit)]


async def postpone_file(conn: Connection, workspace_id: UUID, file_id: UUID, *, delay_s: float) -> None:
    """Keep sweeps from selecting the file for `delay_s` seconds."""
    await conn.execute(POSTPONE_FILE, workspace_id, file_id, delay_s)


async def delete_purged_file(conn: Connection, workspace_id: UUID, file_id: UUID) -> bool:
    """Remove the row of a purged file that no document refers to."""
    return await conn.execute(DELETE_PURGED_FILE, workspace_id, file_id) == "DELETE 1"
