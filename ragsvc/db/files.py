"""The table files: stored objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.models.documents import File

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.pool import Connection

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

# Whoever reads the whole first says it; from then on it is compared.
UPDATE_SHA256 = "UPDATE files SET sha256 = $3 WHERE workspace_id = $1 AND id = $2 AND sha256 IS NULL"

LOCK_FILE = f"{SELECT_FILE} FOR UPDATE"

# Only the documents that stay keep a file.
MARK_FILE_PURGED = """
UPDATE files SET deletion_id = $3
WHERE workspace_id = $1 AND id = $2 AND NOT EXISTS (
    SELECT FROM documents d WHERE d.workspace_id = $1 AND d.file_id = $2 AND d.status <> 'deleting')
RETURNING object_key
"""

# Documents of one file that go at the same moment take turns, or each would leave the row to the other.
LOCK_FILE_ROW = "SELECT FROM files WHERE workspace_id = $1 AND id = $2 FOR UPDATE"

# The last of the documents takes the row with it.
DELETE_PURGED_FILE = """
DELETE FROM files WHERE workspace_id = $1 AND id = $2 AND deletion_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM documents d WHERE d.workspace_id = $1 AND d.file_id = $2)
"""


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
    """Add a file whose object is complete in the store."""
    await conn.execute(
        INSERT_FILE, workspace_id, file_id, upload_id, object_key, filename, mime_type, size_bytes, sha256, etag
    )


async def select_file(conn: Connection, workspace_id: UUID, file_id: UUID) -> File | None:
    """Return one file of the workspace."""
    row = await conn.fetchrow(SELECT_FILE, workspace_id, file_id)
    return File(**row) if row else None


async def select_files(conn: Connection, workspace_id: UUID, *, before: UUID | None = None, limit: int) -> list[File]:
    """Return at most `limit` files, newest first, those older than `before`."""
    return [File(**row) for row in await conn.fetch(SELECT_FILES, workspace_id, before, limit)]


async def update_sha256(conn: Connection, workspace_id: UUID, file_id: UUID, *, sha256: bytes) -> None:
    """Fill in the sha256 of a file that came in parts undeclared."""
    await conn.execute(UPDATE_SHA256, workspace_id, file_id, sha256)


async def lock_file(conn: Connection, workspace_id: UUID, file_id: UUID) -> File | None:
    """Return the file and keep others from attaching or deleting it until the transaction ends."""
    row = await conn.fetchrow(LOCK_FILE, workspace_id, file_id)
    return File(**row) if row else None


async def mark_file_purged(conn: Connection, workspace_id: UUID, file_id: UUID, *, deletion_id: UUID) -> str | None:
    """Close the file for good and return its object key; None while a document that stays uses it."""
    object_key: str | None = await conn.fetchval(MARK_FILE_PURGED, workspace_id, file_id, deletion_id)
    return object_key


async def lock_file_row(conn: Connection, workspace_id: UUID, file_id: UUID) -> None:
    """Keep other deletions of the file's documents waiting, whatever state the file is in."""
    await conn.execute(LOCK_FILE_ROW, workspace_id, file_id)


async def delete_purged_file(conn: Connection, workspace_id: UUID, file_id: UUID) -> bool:
    """Remove the row of a purged file that no document refers to any more."""
    return await conn.execute(DELETE_PURGED_FILE, workspace_id, file_id) == "DELETE 1"
