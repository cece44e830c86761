"""The table chat_sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragsvc.domain.chat.conversations import ChatSession

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record

COLUMNS = "workspace_id, id, title, instructions, model, collection_ids, no_answer_text, created_at, updated_at"

INSERT_SESSION = f"""
INSERT INTO chat_sessions (workspace_id, id, title, instructions, model, collection_ids, no_answer_text)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING {COLUMNS}
"""

SELECT_SESSION = f"SELECT {COLUMNS} FROM chat_sessions WHERE workspace_id = $1 AND id = $2"

SELECT_SESSIONS = f"""
SELECT {COLUMNS} FROM chat_sessions
WHERE workspace_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""

UPDATE_SESSION = f"""
UPDATE chat_sessions SET title = $3, instructions = $4, model = $5, collection_ids = $6, no_answer_text = $7,
    updated_at = now()
WHERE workspace_id = $1 AND id = $2
RETURNING {COLUMNS}
"""

# The runs are locked first: an owner that saves its run locks the run and then the message, and the cascade would lock
# them the other way round.
DELETE_SESSION = """
WITH locked AS MATERIALIZED (
    SELECT id FROM chat_runs WHERE workspace_id = $1 AND session_id = $2 ORDER BY id FOR UPDATE
)
DELETE FROM chat_sessions WHERE workspace_id = $1 AND id = $2 AND (SELECT count(*) FROM locked) >= 0
"""


async def insert_session(
    conn: Connection,
    workspace_id: UUID,
    session_id: UUID,
    *,
    title: str | None,
    instructions: str | None,
    model: str | None,
    collection_ids: Sequence[UUID] | None,
    no_answer_text: str | None = None,
) -> ChatSession:
    """Add a session."""
    row = await conn.fetchrow(
        INSERT_SESSION, workspace_id, session_id, title, instructions, model, collection_ids, no_answer_text
    )
    if row is None:
        raise AssertionError("INSERT … RETURNING returned no row")
    return to_session(row)


async def select_session(conn: Connection, workspace_id: UUID, session_id: UUID) -> ChatSession | None:
    """Return a session of the workspace."""
    row = await conn.fetchrow(SELECT_SESSION, workspace_id, session_id)
    return to_session(row) if row else None


async def select_sessions(
    conn: Connection, workspace_id: UUID, *, before: UUID | None = None, limit: int
) -> list[ChatSession]:
    """Return at most `limit` sessions, newest first, older than `before` if given."""
    return [to_session(row) for row in await conn.fetch(SELECT_SESSIONS, workspace_id, before, limit)]


async def update_session(conn: Connection, session: ChatSession) -> ChatSession | None:
    """Store what clients can change of a session; return None if it was deleted."""
    row = await conn.fetchrow(
        UPDATE_SESSION,
        session.workspace_id,
        session.id,
        session.title,
        session.instructions,
        session.model,
        session.collection_ids,
        session.no_answer_text,
    )
    return to_session(row) if row else None


async def delete_session(conn: Connection, workspace_id: UUID, session_id: UUID) -> bool:
    """Remove a session with its messages and runs; return False if it does not exist."""
    return await conn.execute(DELETE_SESSION, workspace_id, session_id) == "DELETE 1"


def to_session(row: Record | dict[str, Any]) -> ChatSession:
    """Convert a row with exactly COLUMNS to a session."""
    collection_ids = row["collection_ids"]
    return ChatSession(**{**row, "collection_ids": None if collection_ids is None else tuple(collection_ids)})
