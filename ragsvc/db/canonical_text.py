"""The table canonical_text: what offsets point into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.models.chunks import TextSlice

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.pool import Connection

INSERT_TEXT = """
INSERT INTO canonical_text (workspace_id, document_id, build_id, content, length) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, document_id, build_id) DO NOTHING
"""

UPDATE_TEXT_VERSION = """
UPDATE canonical_text SET version = $4 WHERE workspace_id = $1 AND document_id = $2 AND build_id = $3
"""

SELECT_TEXT_SLICE = """
SELECT version, $4::integer AS start, least(coalesce($5::integer, length), length) AS "end", length,
       substring(content FROM $4 + 1 FOR greatest(least(coalesce($5, length), length) - $4, 0)) AS text
FROM canonical_text WHERE workspace_id = $1 AND document_id = $2 AND version = $3
"""

DELETE_OTHER_TEXTS = """
DELETE FROM canonical_text WHERE workspace_id = $1 AND document_id = $2 AND version IS NULL AND build_id <> $3
"""

DELETE_TEXTS = "DELETE FROM canonical_text WHERE workspace_id = $1 AND document_id = $2"


async def insert_text(conn: Connection, workspace_id: UUID, document_id: UUID, *, build_id: UUID, content: str) -> None:
    """Store the text of a build that nobody sees yet."""
    await conn.execute(INSERT_TEXT, workspace_id, document_id, build_id, content, len(content))


async def update_text_version(
    conn: Connection, workspace_id: UUID, document_id: UUID, *, build_id: UUID, version: int
) -> None:
    """Give the build's text the version under which it is shown; earlier versions stay for their citations."""
    await conn.execute(UPDATE_TEXT_VERSION, workspace_id, document_id, build_id, version)


async def select_text_slice(
    conn: Connection, workspace_id: UUID, document_id: UUID, *, version: int, start: int = 0, end: int | None = None
) -> TextSlice | None:
    """Return code points `[start, end)` of a version, cut at its length; None when there is no such version."""
    row = await conn.fetchrow(SELECT_TEXT_SLICE, workspace_id, document_id, version, start, end)
    return TextSlice(**row) if row else None


async def delete_other_texts(conn: Connection, workspace_id: UUID, document_id: UUID, *, build_id: UUID) -> None:
    """Remove the texts of builds that lost."""
    await conn.execute(DELETE_OTHER_TEXTS, workspace_id, document_id, build_id)


async def delete_texts(conn: Connection, workspace_id: UUID, document_id: UUID) -> int:
    """Remove every version's text and return how many there were."""
    status = await conn.execute(DELETE_TEXTS, workspace_id, document_id)
    return int(status.removeprefix("DELETE "))
