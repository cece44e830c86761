"""The table files, one row per stored object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.domain.documents import File
from ragsvc.domain.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence
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
UPDATE files SET deletion_id = $3, document_id = $4
WHERE workspace_id = $1 AND id = $2 AND deletion_id IS NULL AND NOT EXISTS (
    SELECT FROM documents d
    WHERE d.workspace_id = $1 AND (d.file_id = $2 OR d.pending_file_id = $2) AND d.status <> 'deleting')
"""

# Lock the row first, then look for documents in a separate statement, because a single statement that waited for the
# lock would see a snapshot from before the wait.
LOCK_FILE_ROW = "SELECT object_key, deletion_id FROM files WHERE workspace_id = $1 AND id = $2 FOR UPDATE"

# Files of documents that are being deleted: the current ones if `$3`, those of next versions, and replaced ones, which
# no document refers to any more.
SELECT_FILES_OF_DOCUMENTS = """
WITH going AS MATERIALIZED (
    SELECT file_id, pending_file_id FROM documents WHERE workspace_id = $1 AND id = ANY($2::uuid[])
), wanted AS MATERIALIZED (
    SELECT file_id AS id FROM going WHERE $3
    UNION SELECT pending_file_id FROM going WHERE pending_file_id IS NOT NULL
    UNION SELECT id FROM files WHERE workspace_id = $1 AND document_id = ANY($2::uuid[])
)
SELECT f.id, f.object_key, f.deletion_id FROM wanted JOIN files f ON f.workspace_id = $1 AND f.id = wanted.id
ORDER BY f.id
"""

LOCK_FILES = "SELECT id FROM files WHERE workspace_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR UPDATE"

# A file that was closed for another deletion is purged, and counted, by that one. Documents that are being deleted do
# not prevent the purge.
MARK_FILES_PURGED = """
UPDATE files f SET deletion_id = $3
WHERE f.workspace_id = $1 AND f.id = ANY($2::uuid[])
  AND (f.deletion_id IS NULL OR f.document_id = ANY($4::uuid[])) AND f.deletion_id IS DISTINCT FROM $3
  AND NOT EXISTS (
    SELECT FROM documents d
    WHERE d.workspace_id = $1 AND (d.file_id = f.id OR d.pending_file_id = f.id) AND d.status <> 'deleting')
RETURNING f.id
"""

# The row is removed together with the last document that refers to it.
DELETE_PURGED_FILES = """
DELETE FROM files f WHERE f.workspace_id = $1 AND f.id = ANY($2::uuid[]) AND f.deletion_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM documents d WHERE d.workspace_id = $1 AND (d.file_id = f.id OR d.pending_file_id = f.id))
"""

# A file of another document that is being deleted too keeps its row, without an object, until that document is removed.
COUNT_FILES_OF_DELETION = """
SELECT count(*) FROM files f WHERE f.workspace_id = $1 AND f.deletion_id = $2 AND NOT EXISTS (
    SELECT FROM documents d WHERE d.workspace_id = $1 AND (d.file_id = f.id OR d.pending_file_id = f.id))
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


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A file of a document that is being deleted; a closed one is being purged or waits for it."""

    id: UUID
    object_key: str
    is_closed: bool


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


async def release_file(conn: Connection, workspace_id: UUID, file_id: UUID, *, document_id: UUID | None) -> None:
    """Mark a file for purging unless a document uses it; `select_released_files` then returns it.

    `document_id` is the document whose file it was: its deletion purges the file too, if the sweeper has not yet.
    """
    await lock_file_row(conn, workspace_id, file_id)
    await conn.execute(MARK_FILE_PURGED, workspace_id, file_id, new_id(), document_id)


async def select_files_of_documents(
    conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID], *, with_current: bool
) -> list[DocumentFile]:
    """Return the files of next and of replaced versions of the documents, and the current ones if `with_current`."""
    rows = await conn.fetch(SELECT_FILES_OF_DOCUMENTS, workspace_id, document_ids, with_current)
    return [DocumentFile(row["id"], row["object_key"], is_closed=row["deletion_id"] is not None) for row in rows]


async def mark_files_purged(
    conn: Connection,
    workspace_id: UUID,
    file_ids: Sequence[UUID],
    *,
    document_ids: Sequence[UUID],
    deletion_id: UUID,
) -> set[UUID]:
    """Lock the files, and mark those for purging that no other document uses; return the newly marked ones."""
    await conn.fetch(LOCK_FILES, workspace_id, file_ids)
    rows = await conn.fetch(MARK_FILES_PURGED, workspace_id, file_ids, deletion_id, document_ids)
    return {row["id"] for row in rows}


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


async def count_files_of_deletion(conn: Connection, workspace_id: UUID, deletion_id: UUID) -> int:
    """Return the number of files that a deletion has marked and that still have a row, and so perhaps an object."""
    count: int = await conn.fetchval(COUNT_FILES_OF_DELETION, workspace_id, deletion_id)
    return count


async def delete_purged_files(conn: Connection, workspace_id: UUID, file_ids: Sequence[UUID]) -> int:
    """Lock the files, remove the rows of purged ones that no document refers to, and return their number."""
    await conn.fetch(LOCK_FILES, workspace_id, file_ids)
    status = await conn.execute(DELETE_PURGED_FILES, workspace_id, file_ids)
    return int(status.removeprefix("DELETE "))
