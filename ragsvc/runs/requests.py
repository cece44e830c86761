"""Accepts questions and retries. Once committed, each of them ends with an answer or an error, even after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragsvc.answering.answer import Question
from ragsvc.db import chat_runs
from ragsvc.domain.chat.conversations import RunStatus
from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import NotFound, RunNotRetryable
from ragsvc.retrieval.filters import dump_filter, load_filter

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.chat.conversations import ChatSession
    from ragsvc.retrieval.filters import Filter
    from ragsvc.runs.runs import Runs

DEFAULT_LIMIT = 10


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that has just begun in this process."""

    session: ChatSession
    id: UUID
    question_id: UUID
    answer_id: UUID


async def begin_run(
    runs: Runs,
    workspace_id: UUID,
    session_id: UUID,
    *,
    content: str,
    filters: Filter | None = None,
    limit: int = DEFAULT_LIMIT,
    run_id: UUID | None = None,
) -> BegunRun:
    """Store a question and begin to answer it; the run continues whether or not a client follows it.

    Raises:
        NotFound: the session does not exist.
        InvalidRequest: the session's model is not available.
        RunActive: the session's last answer is still in progress.
        TooManyRuns: the key, its workspace or the process has reached its limit of runs.
    """
    request = {"content": content, "filters": dump_filter(filters) if filters else None, "limit": limit}
    question_id = new_id()
    async with runs.resources.scoped_to(workspace_id).pool.acquire() as conn:
        return await _begin(
            conn,
            runs,
            workspace_id,
            session_id,
            run_id=run_id or new_id(),
            question_id=question_id,
            question=content,
            request=request,
            filters=filters,
        )


async def retry_run(runs: Runs, workspace_id: UUID, run_id: UUID, *, new_run_id: UUID | None = None) -> BegunRun:
    """Begin a new run for the question of a run that did not complete; the stored question gets a new answer.

    Raises:
        NotFound: the run does not exist.
        InvalidRequest: the session's model is not available.
        RunActive: the session's last answer is still in progress.
        TooManyRuns: the key, its workspace or the process has reached its limit of runs.
        RunNotRetryable: the run completed, or is not the last of its session.
    """
    async with runs.resources.scoped_to(workspace_id).pool.acquire() as conn:
        run = await chat_runs.select_run(conn, workspace_id, run_id)
        if run is None:
            raise NotFound
        last = await chat_runs.select_last_run(conn, workspace_id, run.session_id)
        if last is None or last.id != run.id or run.status is RunStatus.COMPLETED:
            raise RunNotRetryable
        request: dict[str, Any] = run.request
        return await _begin(
            conn,
            runs,
            workspace_id,
            run.session_id,
            run_id=new_run_id or new_id(),
            question_id=run.user_message_id,
            question=None,
            request=request,
            filters=load_filter(request["filters"]) if request["filters"] else None,
        )


async def _begin(
    conn: Connection,
    runs: Runs,
    workspace_id: UUID,
    session_id: UUID,
    *,
    run_id: UUID,
    question_id: UUID,
    question: str | None,
    request: dict[str, Any],
    filters: Filter | None,
) -> BegunRun:
    answer_id = new_id()
    settings = runs.resources.settings
    permit = runs.owner.permits.take()
    try:
        session, has_history = await chat_runs.insert_run(
            conn,
            workspace_id,
            session_id,
            run_id=run_id,
            question_id=question_id,
            answer_id=answer_id,
            question=question,
            request=request,
            owner=runs.owner.name,
            lease_s=settings.answering.run_lease_s,
            models={*settings.llm.allowed_chat_models, *settings.llm.chat_aliases},
        )
    except BaseException:
        permit.release()
        raise
    asked = Question(
        session=session,
        has_history=has_history,
        message_id=question_id,
        content=request["content"],
        filters=filters,
        limit=request["limit"],
    )
    runs.owner.begin(asked, permit, run_id=run_id, answer_id=answer_id)
    return BegunRun(session, id=run_id, question_id=question_id, answer_id=answer_id)
