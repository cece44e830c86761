"""The table canonical_text: the texts to which offsets refer. It is also used to find leftovers of builds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import TextSlice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

INSERT_TEXT = """
INSERT INTO canonical_text (workspace_id, document_id, build_id, content, length) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, document_id, build_id) DO NOTHING
"""

# The text of the previous version becomes superseded.
UPDATE_TEXT_VERSION = """
UPDATE canonical_text SET
    version = CASE WHEN build_id = $3 THEN $4 ELSE version END,
    keep_until = CASE WHEN build_id = $3 THEN NULL ELSE now() + make_interval(days => $6) END
WHERE workspace_id = $1 AND document_id = $2 AND build_id IN ($3, $5)
"""

SELECT_TEXT_SLICE = """
SELECT version, $4::integer AS start, least(coalesce($5::integer, length), length) AS "end", length,
       substring(content FROM $4 + 1 FOR greatest(least(coalesce($5, length), length) - $4, 0)) AS text
FROM canonical_text WHERE workspace_id = $1 AND document_id = $2 AND version = $3
"""

# The id of a build is its lease token: once no job has that token, the build cannot be continued or activated.
LOCK_LEFT_OVER_BUILD = """
SELECT t.workspace_id, t.document_id, t.build_id FROM canonical_text t
WHERE (t.version IS NULL OR (t.keep_until IS NOT NULL AND t.chunks_removed_at IS NULL))
  AND NOT EXISTS (
    SELECT FROM jobs j WHERE j.workspace_id = t.workspace_id AND j.subject_id = t.document_id
        AND j.lease_token = t.build_id)
  AND NOT EXISTS (
    SELECT FROM documents d WHERE d.workspace_id = t.workspace_id AND d.id = t.document_id AND d.status = 'deleting')
  AND coalesce(t.sweep_after <= now(), true)
LIMIT 1 FOR UPDATE OF t SKIP LOCKED
"""

POSTPONE_BUILD = """
UPDATE canonical_text SET sweep_after = now() + make_interval(secs => $4)
WHERE workspace_id = $1 AND document_id = $2 AND build_id = $3
"""

UPDATE_CHUNKS_REMOVED = """
UPDATE canonical_text SET chunks_removed_at = now()
WHERE workspace_id = $1 AND document_id = $2 AND build_id = $3 AND version IS NOT NULL
"""

DELETE_ABANDONED_TEXT = """
DELETE FROM canonical_text WHERE workspace_id = $1 AND document_id = $2 AND build_id = $3 AND version IS NULL
"""

LOCK_EXPIRED_TEXTS = """
SELECT workspace_id, document_id, build_id, version FROM canonical_text
WHERE keep_until < now() AND chunks_removed_at IS NOT NULL ORDER BY keep_until LIMIT $1 FOR UPDATE SKIP LOCKED
"""

# A cited text is checked again a day later.
POSTPONE_CITED_TEXTS = """
UPDATE canonical_text t SET keep_until = now() + interval '1 day'
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS expired (workspace_id, document_id, build_id)
WHERE t.workspace_id = expired.workspace_id AND t.document_id = expired.document_id AND t.build_id = expired.build_id
  AND EXISTS (
    SELECT FROM chat_messages m
    WHERE m.workspace_id = t.workspace_id
      AND m.sources @> jsonb_build_array(jsonb_build_object('document_id', t.document_id))
      AND m.citations @> jsonb_build_array(jsonb_build_object('document_id', t.document_id, 'version', t.version)))
"""

DELETE_EXPIRED_TEXTS = """
DELETE FROM canonical_text t USING unnest($1::uuid[], $2::uuid[], $3::uuid[])
    AS expired (workspace_id, document_id, build_id)
WHERE t.workspace_id = expired.workspace_id AND t.document_id = expired.document_id AND t.build_id = expired.build_id
  AND t.keep_until < now()
"""

DELETE_TEXTS = """
DELETE FROM canonical_text WHERE workspace_id = $1 AND (document_id, build_id) IN (
    SELECT document_id, build_id FROM canonical_text WHERE workspace_id = $1 AND document_id = ANY($2::uuid[]) LIMIT $3)
"""


@dataclass(frozen=True, slots=True)
class BuildKey:
    """The primary key of a build's text."""

    workspace_id: UUID
    document_id: UUID
    build_id: UUID


async def insert_text(conn: Connection, workspace_id: UUID, document_id: UUID, *, build_id: UUID, content: str) -> None:
    """Store the text of a build that is not active yet."""
    await conn.execute(INSERT_TEXT, workspace_id, document_id, build_id, content, len(content))


async def update_text_version(
    conn: Connection,
    workspace_id: UUID,
    document_id: UUID,
    *,
    build_id: UUID,
    version: int,
    superseded: UUID | None = None,
    retention_days: int = 0,
) -> None:
    """Assign a version to the build's text; the superseded text is retained for `retention_days` for its citations."""
    await conn.execute(UPDATE_TEXT_VERSION, workspace_id, document_id, build_id, version, superseded, retention_days)


async def select_text_slice(
    conn: Connection, workspace_id: UUID, document_id: UUID, *, version: int, start: int = 0, end: int | None = None
) -> TextSlice | None:
    """Return code points `[start, end)` of a version, clipped to its length; None if the version does not exist."""
    row = await conn.fetchrow(SELECT_TEXT_SLICE, workspace_id, document_id, version, start, end)
    return TextSlice(**row) if row else None


async def lock_left_over_build(conn: Connection) -> BuildKey | None:
    """Find an abandoned or superseded build that still has chunks, lock its text and return it, or None."""
    row = await conn.fetchrow(LOCK_LEFT_OVER_BUILD)
    return BuildKey(**row) if row else None


async def postpone_build(conn: Connection, build: BuildKey, *, delay_s: float) -> None:
    """Keep sweeps from selecting the build for `delay_s` seconds."""
    await conn.execute(POSTPONE_BUILD, build.workspace_id, build.document_id, build.build_id, delay_s)


async def settle_left_over_build(conn: Connection, build: BuildKey) -> None:
    """Record that the chunks of a build are removed; also remove the text if it never became a version."""
    key = (build.workspace_id, build.document_id, build.build_id)
    await conn.execute(UPDATE_CHUNKS_REMOVED, *key)
    await conn.execute(DELETE_ABANDONED_TEXT, *key)


async def delete_expired_texts(conn: Connection, *, limit: int) -> int:
    """Remove expired texts of superseded versions that no chat message cites; return their number."""
    rows = await conn.fetch(LOCK_EXPIRED_TEXTS, limit)
    keys = tuple([row[name] for row in rows] for name in ("workspace_id", "document_id", "build_id"))
    await conn.execute(POSTPONE_CITED_TEXTS, *keys)
    return int((await conn.execute(DELETE_EXPIRED_TEXTS, *keys)).removeprefix("DELETE "))


async def delete_texts(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID], *, limit: int) -> int:
    """Remove at most `limit` texts of the documents, of whatever version, and return their number."""
    status = await conn.execute(DELETE_TEXTS, workspace_id, document_ids, limit)
    return int(status.removeprefix("DELETE "))
