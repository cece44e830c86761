"""Writer leases of upload sessions in the table upload_sessions: one request at a time can append."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

TAKE_WRITING = """
UPDATE upload_sessions
SET writer = $3, writing_until = now() + make_interval(secs => $4), writer_is_asked = false
WHERE workspace_id = $1 AND id = $2 AND status = 'pending' AND expires_at > now()
  AND (writer IS NULL OR writing_until <= now())
"""

ASK_WRITER = """
UPDATE upload_sessions SET writer_is_asked = true
WHERE workspace_id = $1 AND id = $2 AND status = 'pending' AND expires_at > now()
"""

RENEW_WRITING = """
UPDATE upload_sessions SET writing_until = now() + make_interval(secs => $4)
WHERE workspace_id = $1 AND id = $2 AND status = 'pending' AND writer = $3
RETURNING writer_is_asked
"""

# Only the current writer can change which tail counts.
UPDATE_TAIL = """
UPDATE upload_sessions SET tail_id = $4, updated_at = now()
WHERE workspace_id = $1 AND id = $2 AND status = 'pending' AND writer = $3
"""

RELEASE_WRITING = """
UPDATE upload_sessions SET writer = NULL, writing_until = NULL, writer_is_asked = false
WHERE workspace_id = $1 AND id = $2 AND writer = $3
"""


async def take_writing(conn: Connection, workspace_id: UUID, upload_id: UUID, *, writer: UUID, lease_s: float) -> bool:
    """Become the writer; return False if there is another one or the session accepts no more bytes."""
    return await conn.execute(TAKE_WRITING, workspace_id, upload_id, writer, lease_s) == "UPDATE 1"


async def ask_writer(conn: Connection, workspace_id: UUID, upload_id: UUID) -> bool:
    """Ask the current writer to yield; return False if the session accepts no more bytes."""
    return await conn.execute(ASK_WRITER, workspace_id, upload_id) == "UPDATE 1"


async def renew_writing(
    conn: Connection, workspace_id: UUID, upload_id: UUID, *, writer: UUID, lease_s: float
) -> bool | None:
    """Renew the lease and return whether another request asks for it; None if the lease was lost."""
    asked: bool | None = await conn.fetchval(RENEW_WRITING, workspace_id, upload_id, writer, lease_s)
    return asked


async def update_tail(conn: Connection, workspace_id: UUID, upload_id: UUID, *, writer: UUID, tail_id: UUID) -> bool:
    """Let a tail count; return False if the lease was lost or the session has ended."""
    return await conn.execute(UPDATE_TAIL, workspace_id, upload_id, writer, tail_id) == "UPDATE 1"


async def release_writing(conn: Connection, workspace_id: UUID, upload_id: UUID, *, writer: UUID) -> None:
    """Release the lease."""
    await conn.execute(RELEASE_WRITING, workspace_id, upload_id, writer)
