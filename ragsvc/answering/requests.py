"""Accepts questions, and questions asked again; from the commit on an answer will come, or a run that says why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragsvc.answering.answer import Question
from ragsvc.answering.filters import compile_filter, dump_filter, load_filter
from ragsvc.db import chat_messages, chat_runs, chat_sessions
from ragsvc.errors import NotFound, RunNotRetryable
from ragsvc.models.chat import RunStatus
from ragsvc.models.ids import new_id

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.answering.filters import Filter
    from ragsvc.answering.runs import Runs
    from ragsvc.db.pool import Connection
    from ragsvc.models.chat import ChatSession

DEFAULT_LIMIT = 10


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that was just begun in this process."""

    session: ChatSession
    id: UUID
    question_id: UUID
    answer_id: UUID
    request: dict[str, Any]


async def begin_run(
    runs: Runs,
    workspace_id: UUID,
    session_id: UUID,
    *,
    content: str,
    filters: Filter | None = None,
    limit: int = DEFAULT_LIMIT,
) -> BegunRun:
    """Store a question and begin to answer it; the run goes on whoever follows it.

    Raises:
        NotFound: there is no such session.
        InvalidRequest: the filter is too large or has no meaning.
        RunActive: the session's last answer is still being written.
    """
    compile_filter(filters)
    request = {"content": content, "filters": dump_filter(filters) if filters else None, "limit": limit}
    async with runs.resources.pool.acquire() as conn, conn.transaction():
        session = await chat_sessions.select_session(conn, workspace_id, session_id)
        if session is None:
            raise NotFound
        run = BegunRun(session, id=new_id(), question_id=new_id(), answer_id=new_id(), request=request)
        await _insert(conn, runs, run)
        await chat_messages.insert_message(
            conn,
            workspace_id,
            run.question_id,
            session_id=session_id,
            run_id=run.id,
            role="user",
            status=RunStatus.COMPLETED,
            content=content,
        )
    _begin(runs, run)
    return run


async def retry_run(runs: Runs, workspace_id: UUID, run_id: UUID) -> BegunRun:
    """Ask again what a run did not answer: a new run, and a new answer to the same message.

    Raises:
        NotFound: there is no such run.
        RunActive: the session's last answer is still being written.
        RunNotRetryable: the run did answer, or is not its session's last.
    """
    async with runs.resources.pool.acquire() as conn, conn.transaction():
        run = await chat_runs.select_run(conn, workspace_id, run_id)
        session = await chat_sessions.select_session(conn, workspace_id, run.session_id) if run else None
        if run is None or session is None:
            raise NotFound
        last = await chat_runs.select_last_run(conn, workspace_id, session.id)
        if last is None or last.id != run.id or run.status is RunStatus.COMPLETED:
            raise RunNotRetryable
        again = BegunRun(session, id=new_id(), question_id=run.user_message_id, answer_id=new_id(), request=run.request)
        await _insert(conn, runs, again)
    _begin(runs, again)
    return again


async def _insert(conn: Connection, runs: Runs, run: BegunRun) -> None:
    workspace_id = run.session.workspace_id
    await chat_runs.insert_run(
        conn,
        workspace_id,
        run.id,
        session_id=run.session.id,
        user_message_id=run.question_id,
        message_id=run.answer_id,
        request=run.request,
        owner=runs.owner.name,
        lease_s=runs.resources.settings.run_lease_s,
    )
    await chat_messages.insert_message(
        conn,
        workspace_id,
        run.answer_id,
        session_id=run.session.id,
        run_id=run.id,
        role="assistant",
        status="streaming",
    )


def _begin(runs: Runs, run: BegunRun) -> None:
    filters = run.request["filters"]
    question = Question(
        session=run.session,
        message_id=run.question_id,
        content=run.request["content"],
        filters=load_filter(filters) if filters else None,
        limit=run.request["limit"],
    )
    runs.owner.begin(question, run_id=run.id, answer_id=run.answer_id)
