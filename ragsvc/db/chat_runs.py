"""The table chat_runs: runs, their owners and their progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.chat_messages import CITES_DOCUMENT, HIDDEN, to_message
from ragsvc.db.chat_sessions import COLUMNS as SESSION_COLUMNS
from ragsvc.db.chat_sessions import to_session
from ragsvc.db.connections.pool import ForeignKeyViolation
from ragsvc.db.workspaces import PIN_WORKSPACE
from ragsvc.domain.chat.conversations import ChatMessage, ChatRun, RunStatus
from ragsvc.domain.documents import FailureInfo
from ragsvc.errors.requests import InvalidRequest, NotFound, RunActive

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record
    from ragsvc.domain.chat.conversations import ChatSession, RunProgress

COLUMNS = """
r.workspace_id, r.id, r.session_id, r.user_message_id, r.message_id, r.status, r.request, r.last_event_id, r.marks,
r.finish_reason, r.error, r.cancel_requested, r.created_at, r.finished_at
"""

# Inserts the run, its empty answer and (unless it is a retry) its question, and updates the session, in one round trip
# because a user is waiting.
INSERT_RUN = f"""
WITH pinned AS MATERIALIZED (
    {PIN_WORKSPACE}
), session AS (
    SELECT {SESSION_COLUMNS} FROM chat_sessions WHERE workspace_id = $1 AND id = $2 AND EXISTS (SELECT FROM pinned)
), run AS (
    INSERT INTO chat_runs (workspace_id, id, session_id, user_message_id, message_id, request, lease_owner, lease_until)
    SELECT $1, $3, session.id, $4, $5, $6, $7, now() + make_interval(secs => $8) FROM session
    WHERE session.model IS NULL OR session.model = ANY($10::text[])
    ON CONFLICT (workspace_id, session_id) WHERE status = 'running' DO NOTHING
    RETURNING id, session_id
), messages AS (
    INSERT INTO chat_messages (workspace_id, id, session_id, run_id, role, status, content)
    SELECT $1, $4, run.session_id, run.id, 'user', 'completed', $9 FROM run WHERE $9::text IS NOT NULL
    UNION ALL
    SELECT $1, $5, run.session_id, run.id, 'assistant', 'streaming', '' FROM run
), changed AS (
    UPDATE chat_sessions s SET updated_at = now() FROM run WHERE s.workspace_id = $1 AND s.id = run.session_id
)
SELECT {SESSION_COLUMNS}, EXISTS (SELECT FROM run) AS is_inserted, EXISTS (
    SELECT FROM chat_messages m
    WHERE m.workspace_id = $1 AND m.session_id = $2 AND m.id <> $4 AND m.status = 'completed') AS has_history
FROM session
"""

SELECT_RUN = f"SELECT {COLUMNS} FROM chat_runs r WHERE r.workspace_id = $1 AND r.id = $2"

SELECT_LAST_RUN = f"""
SELECT {COLUMNS} FROM chat_runs r WHERE r.workspace_id = $1 AND r.session_id = $2
ORDER BY r.created_at DESC, r.id DESC LIMIT 1
"""

SELECT_RUN_WITH_MESSAGE = f"""
SELECT {COLUMNS}, m.role, m.status AS message_status, m.content, m.sources, m.citations, m.model, m.usage,
       m.created_at AS message_created_at, m.redacted, {HIDDEN}
FROM chat_runs r JOIN chat_messages m ON m.workspace_id = r.workspace_id AND m.id = r.message_id
WHERE r.workspace_id = $1 AND r.id = $2
"""

# Only the owner can write. Text of documents that are being deleted is not stored: the lock waits for a deletion that
# is being accepted, and makes a later one wait, so that its redaction finds this message. A run that uses such a
# document is ended, since its further text could contain words of the document.
SAVE_RUN = """
WITH live AS MATERIALIZED (
    SELECT d.id FROM documents d
    WHERE d.workspace_id = $1 AND d.id = ANY($9::uuid[]) AND d.status <> 'deleting' ORDER BY d.id FOR SHARE
), next AS MATERIALIZED (
    SELECT CASE WHEN $6::text = 'running' AND (SELECT count(*) FROM live) < cardinality($9::uuid[])
        THEN 'interrupted' ELSE $6::text END AS status
), run AS (
    UPDATE chat_runs r SET last_event_id = $4::integer + (next.status <> $6)::integer, marks = $5,
        status = next.status, finish_reason = $7, error = $8,
        lease_owner = CASE WHEN next.status = 'running' THEN r.lease_owner END,
        lease_until = CASE WHEN next.status = 'running' THEN r.lease_until END,
        finished_at = CASE WHEN next.status = 'running' THEN NULL ELSE now() END
    FROM next WHERE r.workspace_id = $1 AND r.id = $2 AND r.lease_owner = $3 AND r.status = 'running'
    RETURNING r.message_id, r.status
), answer AS (
    UPDATE chat_messages m SET content = $10, model = $13, usage = $14, finish_reason = $7,
        status = CASE WHEN run.status = 'running' THEN 'streaming' ELSE run.status END,
        sources = CASE WHEN $11::jsonb IS NULL THEN m.sources ELSE (
            SELECT coalesce(jsonb_agg(CASE WHEN (entry ->> 'document_id')::uuid IN (SELECT id FROM live)
                THEN entry ELSE entry || '{"heading_path": [], "filename": ""}' END ORDER BY position), '[]')
            FROM jsonb_array_elements($11) WITH ORDINALITY AS listed (entry, position)) END,
        citations = CASE WHEN $12::jsonb IS NULL THEN m.citations ELSE (
            SELECT coalesce(jsonb_agg(CASE WHEN entry -> 'document_id' = 'null'
                OR (entry ->> 'document_id')::uuid IN (SELECT id FROM live)
                THEN entry ELSE entry || '{"heading_path": [], "quote": "", "filename": "", "verified": false}' END
                ORDER BY position), '[]')
            FROM jsonb_array_elements($12) WITH ORDINALITY AS listed (entry, position)) END
    FROM run WHERE m.workspace_id = $1 AND m.id = run.message_id
), usage AS (
    INSERT INTO model_usage AS u (workspace_id, day, model, runs, estimated_runs, prompt_tokens, completion_tokens)
    SELECT $1, (now() AT TIME ZONE 'UTC')::date, $13, 1, ($14::jsonb ->> 'is_estimated')::boolean::integer,
           ($14::jsonb ->> 'prompt_tokens')::bigint, ($14::jsonb ->> 'completion_tokens')::bigint
    FROM run WHERE run.status <> 'running' AND $13 IS NOT NULL AND $14 IS NOT NULL
    ON CONFLICT (workspace_id, day, model) DO UPDATE SET runs = u.runs + excluded.runs,
        estimated_runs = u.estimated_runs + excluded.estimated_runs,
        prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = u.completion_tokens + excluded.completion_tokens
)
SELECT count(*) FROM run WHERE run.status = $6
"""

# The run before its message, as in SAVE_RUN.
INTERRUPT_RUNS = f"""
WITH ended AS (
    UPDATE chat_runs r SET status = 'interrupted', last_event_id = r.last_event_id + 1, finished_at = now(),
        lease_owner = NULL, lease_until = NULL
    FROM chat_messages m
    WHERE r.workspace_id = $1 AND r.status = 'running' AND m.id = r.message_id AND {CITES_DOCUMENT}
    RETURNING r.message_id
)
UPDATE chat_messages m SET status = 'interrupted' FROM ended WHERE m.workspace_id = $1 AND m.id = ended.message_id
"""

INTERRUPT_ALL_RUNS = """
UPDATE chat_runs SET status = 'interrupted', last_event_id = last_event_id + 1, finished_at = now(),
    lease_owner = NULL, lease_until = NULL
WHERE workspace_id = $1 AND status = 'running'
"""

# Runs whose stream can still exist in Redis.
SELECT_STREAMED_RUNS = """
SELECT id FROM chat_runs
WHERE workspace_id = $1 AND (finished_at IS NULL OR finished_at > now() - make_interval(secs => $2))
  AND ($3::uuid IS NULL OR id > $3)
ORDER BY id LIMIT $4
"""

RENEW_LEASES = """
UPDATE chat_runs SET lease_until = now() + make_interval(secs => $2)
WHERE lease_owner = $1 AND status = 'running' AND lease_until < now() + make_interval(secs => $2 * 2 / 3)
"""

SELECT_RUNS = f"""
SELECT {COLUMNS} FROM chat_runs r
WHERE r.workspace_id = $1 AND ($2::uuid IS NULL OR r.session_id = $2) AND ($3::text IS NULL OR r.status = $3)
  AND ($4::uuid IS NULL OR r.id < $4)
ORDER BY r.id DESC LIMIT $5
"""

SELECT_OWNED_RUNS = "SELECT id, cancel_requested FROM chat_runs WHERE lease_owner = $1 AND status = 'running'"

UPDATE_CANCEL_REQUESTED = f"""
UPDATE chat_runs r SET cancel_requested = r.cancel_requested OR r.status = 'running'
WHERE r.workspace_id = $1 AND r.id = $2
RETURNING {COLUMNS}
"""

CLAIM_LOST_RUNS = f"""
WITH lost AS MATERIALIZED (
    SELECT workspace_id, id FROM chat_runs WHERE status = 'running' AND lease_until < now()
    ORDER BY lease_until LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE chat_runs r SET lease_owner = $1, lease_until = now() + make_interval(secs => $2)
FROM lost WHERE r.workspace_id = lost.workspace_id AND r.id = lost.id
RETURNING {COLUMNS}
"""


async def insert_run(
    conn: Connection,
    workspace_id: UUID,
    session_id: UUID,
    *,
    run_id: UUID,
    question_id: UUID,
    answer_id: UUID,
    question: str | None,
    request: dict[str, object],
    owner: str,
    lease_s: float,
    models: Collection[str],
) -> tuple[ChatSession, bool]:
    """Add a run owned by `owner`, with its empty answer and its question (None for a retry, which has one already).

    Return its session, and whether the session has completed messages before the question. The row itself represents
    the first event of the run.

    Raises:
        NotFound: the session does not exist, or its workspace is being deleted.
        InvalidRequest: the session's model is not one of `models`.
        RunActive: the session already has an active run.
    """
    try:
        row = await conn.fetchrow(
            INSERT_RUN,
            workspace_id,
            session_id,
            run_id,
            question_id,
            answer_id,
            request,
            owner,
            lease_s,
            question,
            list(models),
        )
    except ForeignKeyViolation:
        raise NotFound from None
    if row is None:
        raise NotFound
    if not row["is_inserted"]:
        if row["model"] is not None and row["model"] not in models:
            raise InvalidRequest(fields={"model": "the session's model is not available"})
        raise RunActive
    session = {name: value for name, value in row.items() if name not in {"is_inserted", "has_history"}}
    return to_session(session), row["has_history"]


async def select_run(conn: Connection, workspace_id: UUID, run_id: UUID) -> ChatRun | None:
    """Return a run of the workspace."""
    row = await conn.fetchrow(SELECT_RUN, workspace_id, run_id)
    return _to_run(row) if row else None


async def select_runs(
    conn: Connection,
    workspace_id: UUID,
    *,
    session_id: UUID | None,
    status: RunStatus | None,
    before: UUID | None,
    limit: int,
) -> list[ChatRun]:
    """Return at most `limit` runs, newest first, limited to the given session, status and ids before `before`."""
    return [_to_run(row) for row in await conn.fetch(SELECT_RUNS, workspace_id, session_id, status, before, limit)]


async def select_last_run(conn: Connection, workspace_id: UUID, session_id: UUID) -> ChatRun | None:
    """Return the newest run of a session."""
    row = await conn.fetchrow(SELECT_LAST_RUN, workspace_id, session_id)
    return _to_run(row) if row else None


async def select_run_with_message(
    conn: Connection, workspace_id: UUID, run_id: UUID
) -> tuple[ChatRun, ChatMessage] | None:
    """Return a run and its answer in a consistent state."""
    row = await conn.fetchrow(SELECT_RUN_WITH_MESSAGE, workspace_id, run_id)
    if row is None:
        return None
    answer = {
        **row,
        "id": row["message_id"],
        "run_id": row["id"],
        "status": row["message_status"],
        "created_at": row["message_created_at"],
    }
    return _to_run(row), to_message(answer)


async def save_run(conn: Connection, progress: RunProgress, *, owner: str) -> bool:
    """Store a run and its answer so far, or its end; return False if `owner` has lost the run.

    A run that would use a document that is being deleted is ended, and lost to its owner.
    """
    documents: set[UUID | None] = {source.document_id for source in progress.sources or ()}
    documents |= {citation.document_id for citation in progress.citations or ()}
    saved: int = await conn.fetchval(
        SAVE_RUN,
        progress.workspace_id,
        progress.run_id,
        owner,
        progress.last_event_id,
        progress.marks,
        progress.status,
        progress.finish_reason,
        progress.error.to_json() if progress.error else None,
        [document_id for document_id in documents if document_id],
        progress.content,
        progress.sources,
        progress.citations,
        progress.model,
        progress.usage,
    )
    return saved > 0


async def interrupt_runs(conn: Connection, workspace_id: UUID, document_id: UUID) -> None:
    """End the active runs that use a document, so that their owners write no more of it."""
    await conn.execute(INTERRUPT_RUNS, workspace_id, document_id)


async def interrupt_all_runs(conn: Connection, workspace_id: UUID) -> None:
    """End the active runs of a workspace that is being deleted; their messages are removed soon."""
    await conn.execute(INTERRUPT_ALL_RUNS, workspace_id)


async def select_streamed_runs(
    conn: Connection, workspace_id: UUID, *, within_s: float, after: UUID | None, limit: int
) -> list[UUID]:
    """Return at most `limit` runs that are active or ended within `within_s`, in id order, after `after` if given."""
    return [row["id"] for row in await conn.fetch(SELECT_STREAMED_RUNS, workspace_id, within_s, after, limit)]


async def renew_leases(conn: Connection, *, owner: str, lease_s: float) -> None:
    """Renew those of the owner's leases of which a third has elapsed."""
    await conn.execute(RENEW_LEASES, owner, lease_s)


async def select_owned_runs(conn: Connection, *, owner: str) -> dict[UUID, bool]:
    """Return the ids of the owner's active runs, each with whether a cancellation was requested."""
    return {row["id"]: row["cancel_requested"] for row in await conn.fetch(SELECT_OWNED_RUNS, owner)}


async def update_cancel_requested(conn: Connection, workspace_id: UUID, run_id: UUID) -> ChatRun | None:
    """Request the cancellation of a run if it is active, and return the run."""
    row = await conn.fetchrow(UPDATE_CANCEL_REQUESTED, workspace_id, run_id)
    return _to_run(row) if row else None


async def claim_lost_runs(conn: Connection, *, owner: str, lease_s: float, limit: int) -> list[ChatRun]:
    """Take over at most `limit` runs whose lease has expired."""
    return [_to_run(row) for row in await conn.fetch(CLAIM_LOST_RUNS, owner, lease_s, limit)]


def _to_run(row: Record) -> ChatRun:
    return ChatRun(
        workspace_id=row["workspace_id"],
        id=row["id"],
        session_id=row["session_id"],
        user_message_id=row["user_message_id"],
        message_id=row["message_id"],
        status=RunStatus(row["status"]),
        request=row["request"],
        last_event_id=row["last_event_id"],
        marks=tuple(row["marks"]),
        finish_reason=row["finish_reason"],
        error=FailureInfo.from_json(row["error"]) if row["error"] else None,
        cancel_requested=row["cancel_requested"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
