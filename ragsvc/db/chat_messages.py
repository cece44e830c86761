"""The table chat_messages: questions and answers, with sources and citations of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragsvc.db.documents import IS_GOING
from ragsvc.domain.chat.citations import Citation, Source
from ragsvc.domain.chat.conversations import ChatMessage, TokenUsage
from ragsvc.domain.chat.redaction import redact_message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record

# Those of a message's documents that are deleted or being deleted, since the message might not be redacted yet. Only
# sources can be cited, so it is enough to check the sources.
HIDDEN = f"""
ARRAY(SELECT DISTINCT (entry ->> 'document_id')::uuid FROM jsonb_array_elements(m.sources) entry
      WHERE NOT EXISTS (SELECT FROM documents d WHERE d.workspace_id = m.workspace_id
                        AND d.id = (entry ->> 'document_id')::uuid AND NOT {IS_GOING})) AS hidden
"""
COLUMNS = f"""
m.workspace_id, m.id, m.session_id, m.run_id, m.role, m.status, m.content, m.sources, m.citations, m.model, m.usage,
m.created_at, m.finish_reason, m.redacted, {HIDDEN}
"""

SELECT_MESSAGE = f"SELECT {COLUMNS} FROM chat_messages m WHERE m.workspace_id = $1 AND m.id = $2"

# Messages are ordered by Postgres's clock, since ids are made by API processes, whose clocks differ. A question and its
# answer have the same time, and ids of the same process.
SELECT_MESSAGES = f"""
SELECT {COLUMNS} FROM chat_messages m
WHERE m.workspace_id = $1 AND m.session_id = $2 AND ($3::uuid IS NULL OR (m.created_at, m.id) > (
    SELECT a.created_at, a.id FROM chat_messages a WHERE a.workspace_id = $1 AND a.id = $3))
ORDER BY m.created_at, m.id LIMIT $4
"""

SELECT_HISTORY = f"""
SELECT {COLUMNS} FROM chat_messages m
WHERE m.workspace_id = $1 AND m.session_id = $2 AND m.status = 'completed' AND (m.created_at, m.id) < (
    SELECT b.created_at, b.id FROM chat_messages b WHERE b.workspace_id = $1 AND b.id = $3)
ORDER BY m.created_at DESC, m.id DESC LIMIT $4
"""

# Only sources can be cited, so the index on sources finds the citations too.
CITES_DOCUMENT = "m.workspace_id = $1 AND m.sources @> jsonb_build_array(jsonb_build_object('document_id', $2::uuid))"

CONTAINS_ITS_TEXT = """
(jsonb_path_exists(m.sources, '$[*] ? (@.document_id == $document && (@.filename != "" || @.heading_path.size() > 0))',
                   jsonb_build_object('document', $2::uuid))
 OR jsonb_path_exists(m.citations,
                      '$[*] ? (@.document_id == $document
                          && (@.quote != "" || @.filename != "" || @.heading_path.size() > 0))',
                      jsonb_build_object('document', $2::uuid)))
"""

# Locked in id order, so that two deletions cannot deadlock.
SELECT_UNREDACTED = f"""
SELECT {COLUMNS} FROM chat_messages m WHERE {CITES_DOCUMENT} AND {CONTAINS_ITS_TEXT} ORDER BY m.id LIMIT $3
FOR UPDATE OF m
"""

UPDATE_REDACTED = """
UPDATE chat_messages m SET content = one.content, sources = one.sources, citations = one.citations, redacted = true
FROM jsonb_to_recordset($2) AS one (id uuid, content text, sources jsonb, citations jsonb)
WHERE m.workspace_id = $1 AND m.id = one.id
"""

SELECT_ANSWERED = """
SELECT asked.id FROM unnest($2::uuid[]) AS asked (id) WHERE EXISTS (
    SELECT FROM chat_messages m WHERE m.workspace_id = $1
      AND m.sources @> jsonb_build_array(jsonb_build_object('document_id', asked.id)))
"""

COUNT_UNREDACTED = f"SELECT count(*) FROM chat_messages m WHERE {CITES_DOCUMENT} AND {CONTAINS_ITS_TEXT}"

SELECT_RUN_IDS_OF_DOCUMENT = f"""
SELECT m.run_id FROM chat_messages m JOIN chat_runs r ON r.workspace_id = $1 AND r.id = m.run_id
WHERE {CITES_DOCUMENT} AND ($3::uuid IS NULL OR m.run_id > $3)
  AND (r.finished_at IS NULL OR r.finished_at > now() - make_interval(secs => $5)) ORDER BY m.run_id LIMIT $4
"""


async def select_message(conn: Connection, workspace_id: UUID, message_id: UUID) -> ChatMessage | None:
    """Return a message of the workspace."""
    row = await conn.fetchrow(SELECT_MESSAGE, workspace_id, message_id)
    return to_message(row) if row else None


async def select_messages(
    conn: Connection, workspace_id: UUID, session_id: UUID, *, after: UUID | None = None, limit: int
) -> list[ChatMessage]:
    """Return at most `limit` messages of a session, oldest first, newer than `after` if given."""
    rows = await conn.fetch(SELECT_MESSAGES, workspace_id, session_id, after, limit)
    return [to_message(row) for row in rows]


async def select_history(
    conn: Connection, workspace_id: UUID, session_id: UUID, *, before: UUID, limit: int
) -> list[ChatMessage]:
    """Return the last `limit` completed messages before the message `before`, oldest first."""
    rows = await conn.fetch(SELECT_HISTORY, workspace_id, session_id, before, limit)
    return [to_message(row) for row in reversed(rows)]


async def redact_document(conn: Connection, workspace_id: UUID, document_id: UUID, *, limit: int) -> int:
    """Remove words of a document from at most `limit` messages; return the number of changed messages.

    Must run in a transaction. Answers that are still being written must have been ended with `interrupt_runs`.
    """
    rows = await conn.fetch(SELECT_UNREDACTED, workspace_id, document_id, limit)
    redacted = [redact_message(_parse_message(row), {document_id}) for row in rows]
    changes = [
        {"id": one.id, "content": one.content, "sources": one.sources, "citations": one.citations} for one in redacted
    ]
    if changes:
        await conn.execute(UPDATE_REDACTED, workspace_id, changes)
    return len(changes)


async def select_answered(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> list[UUID]:
    """Return those of the documents that are sources of an answer."""
    return [row["id"] for row in await conn.fetch(SELECT_ANSWERED, workspace_id, document_ids)]


async def count_unredacted(conn: Connection, workspace_id: UUID, document_id: UUID) -> int:
    """Return the number of messages that still contain text of the document."""
    count: int = await conn.fetchval(COUNT_UNREDACTED, workspace_id, document_id)
    return count


async def select_run_ids_of_document(
    conn: Connection, workspace_id: UUID, document_id: UUID, *, within_s: float, after: UUID | None = None, limit: int
) -> list[UUID]:
    """Return at most `limit` runs that used the document and are active or ended within `within_s`, in id order."""
    rows = await conn.fetch(SELECT_RUN_IDS_OF_DOCUMENT, workspace_id, document_id, after, limit, within_s)
    return [row["run_id"] for row in rows]


def to_message(row: Record | dict[str, Any]) -> ChatMessage:
    """Convert a row with COLUMNS to a message, without words of documents that are being deleted or are gone."""
    return redact_message(_parse_message(row), row["hidden"])


def _parse_message(row: Record | dict[str, Any]) -> ChatMessage:
    return ChatMessage(
        workspace_id=row["workspace_id"],
        id=row["id"],
        session_id=row["session_id"],
        run_id=row["run_id"],
        role=row["role"],
        status=row["status"],
        content=row["content"],
        sources=tuple(map(Source.from_json, row["sources"])),
        citations=tuple(map(Citation.from_json, row["citations"])),
        model=row["model"],
        usage=TokenUsage(**row["usage"]) if row["usage"] else None,
        created_at=row["created_at"],
        finish_reason=row["finish_reason"],
        redacted=row["redacted"],
    )
