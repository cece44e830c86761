"""The runs that this process owns: their tasks, leases and outcomes."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ragsvc.answering.answer import Answerer, Outcome
from ragsvc.db import chat_runs
from ragsvc.db.connections.pool import DATABASE_TROUBLE
from ragsvc.domain.chat.conversations import RunStatus
from ragsvc.domain.documents import FailureInfo
from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import Overloaded, RequestError, Unavailable
from ragsvc.errors.work import LeaseLost, OutageFailure, TransientFailure, WorkError
from ragsvc.runs.permits import RunPermits
from ragsvc.runs.writer import RunWriter
from ragsvc.tasks import keep_renewed
from ragsvc.telemetry.metrics import RUN_DURATION, RUNS, RUNS_ACTIVE
from ragsvc.telemetry.traces import span

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.answering.answer import Question
    from ragsvc.resources import Resources
    from ragsvc.runs.event_log import EventLog
    from ragsvc.runs.journal import Journal
    from ragsvc.runs.permits import RunPermit
    from ragsvc.telemetry.spans import Span

# Interval between saves of a changing run, and the longest delay before another process's cancellation is noticed.
SAVE_INTERVAL_S = 0.5
CONCURRENT_SAVES = 4
DRAIN_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class OwnedRun:
    """A run that this process answers; `stopping` is the status that it will end with, set when it is asked to stop."""

    writer: RunWriter
    permit: RunPermit
    task: asyncio.Task[None] | None = None
    stopping: RunStatus | None = None
    has_begun: bool = False
    is_interrupted: bool = False

    def begin(self) -> None:
        """Mark the task as running.

        Raises:
            CancelledError: the run was interrupted before.
        """
        self.has_begun = True
        if self.is_interrupted:
            raise asyncio.CancelledError

    def interrupt(self) -> bool:
        """Cancel the task. If it has not started, it cancels itself in `begin`: only a started task can end its run."""
        self.is_interrupted = True
        return not self.has_begun or (self.task is not None and self.task.cancel())


class RunOwner:
    """Answers runs as tasks of this process, under leases in Postgres."""

    def __init__(self, resources: Resources, event_log: EventLog) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{new_id().hex}"
        self.permits = RunPermits(resources.settings)
        self._resources = resources
        self._event_log = event_log
        self._runs: dict[UUID, OwnedRun] = {}
        self._is_draining = False

    def __len__(self) -> int:
        """Return the number of runs in progress."""
        return len(self._runs)

    def begin(self, question: Question, permit: RunPermit, *, run_id: UUID, answer_id: UUID) -> None:
        """Start to answer a question; its run must already be stored with this owner's name.

        The run keeps its permit until it has ended.
        """
        writer = RunWriter(
            self._resources.scoped_to(question.session.workspace_id),
            self._event_log,
            workspace_id=question.session.workspace_id,
            run_id=run_id,
            message_id=answer_id,
            owner=self.name,
        )
        owned = self._runs[run_id] = OwnedRun(writer, permit)
        owned.task = asyncio.create_task(self._answer(owned, question), name=f"run-{run_id.hex}")
        if self._is_draining:
            self._stop(owned, RunStatus.INTERRUPTED)

    def journal_of(self, run_id: UUID) -> Journal | None:
        """Return the events of a run; None if another process answers it, or if it has ended."""
        owned = self._runs.get(run_id)
        return owned.writer.journal if owned and not owned.writer.journal.is_lost else None

    def cancel(self, run_id: UUID) -> bool:
        """End a run as cancelled, if this process answers it."""
        owned = self._runs.get(run_id)
        return owned is not None and self._stop(owned, RunStatus.CANCELLED)

    async def drain(self) -> None:
        """End all runs as interrupted, including those that begin later, because this process is stopping."""
        self._is_draining = True
        for owned in self._runs.values():
            self._stop(owned, RunStatus.INTERRUPTED)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while tasks := [owned.task for owned in self._runs.values() if owned.task]:
                    await asyncio.wait(tasks)

    async def supervise(self) -> None:
        """Renew leases, apply cancellations by other processes and save changed runs, until cancelled.

        Leases are renewed independently of saves, so that slow saves do not cost a run its lease.
        """
        await asyncio.gather(
            keep_renewed(
                self._renew_leases,
                interval_s=SAVE_INTERVAL_S,
                event="run_leases_not_renewed",
                expected=DATABASE_TROUBLE,
            ),
            keep_renewed(
                self._save_changes, interval_s=SAVE_INTERVAL_S, event="runs_not_saved", expected=DATABASE_TROUBLE
            ),
        )

    async def _renew_leases(self) -> bool:
        before = dict(self._runs)
        if not before:
            return True
        async with self._resources.pool.acquire() as conn:
            await chat_runs.renew_leases(conn, owner=self.name, lease_s=self._resources.settings.answering.run_lease_s)
            stored = await chat_runs.select_owned_runs(conn, owner=self.name)
        for run_id, owned in before.items():
            if run_id not in stored:
                self._lose(owned)
            elif stored[run_id]:
                self._stop(owned, RunStatus.CANCELLED)
        return True

    async def _save_changes(self) -> bool:
        slots = asyncio.Semaphore(CONCURRENT_SAVES)
        changed = [owned for owned in self._runs.values() if owned.writer.is_save_due]
        await asyncio.gather(*(self._save(owned, slots) for owned in changed))
        return True

    async def _save(self, owned: OwnedRun, slots: asyncio.Semaphore) -> None:
        async with slots:
            if not await owned.writer.save():
                self._lose(owned)

    def _lose(self, owned: OwnedRun) -> None:
        # The run may have ended since it was selected.
        if not owned.writer.is_finishing:
            owned.writer.is_finishing = True
            owned.writer.journal.lose()
            owned.interrupt()

    def _stop(self, owned: OwnedRun, status: RunStatus) -> bool:
        if owned.stopping or owned.writer.is_finishing:
            return False
        owned.stopping = status
        return owned.interrupt()

    async def _answer(self, owned: OwnedRun, question: Question) -> None:
        run_id = owned.writer.journal.run_id
        structlog.contextvars.bind_contextvars(run_id=run_id)
        RUNS_ACTIVE.inc()
        try:
            with span("answer", attributes={"ragsvc.run_id": run_id.hex}) as traced:
                outcome = await self._outcome(owned, question)
                if outcome is not None:
                    await owned.writer.finish(outcome)
                    _record_outcome(outcome, traced, duration_s=time.perf_counter() - owned.writer.begun_at)
        except Exception:
            # The lease will expire, and the sweeper will then end the run.
            log.exception("run_not_finished")
            owned.writer.journal.lose()
        finally:
            RUNS_ACTIVE.dec()
            owned.permit.release()
            del self._runs[run_id]
            if owned.writer.journal.end is None:
                self._event_log.forget(run_id)

    async def _outcome(self, owned: OwnedRun, question: Question) -> Outcome | None:
        """Return how the answer ended; None if this process has lost the run."""
        try:
            owned.begin()
            resources = self._resources.scoped_to(question.session.workspace_id)
            return await self._answer_in_time(Answerer(resources, question, owned.writer))
        except asyncio.CancelledError:
            if owned.stopping is None:
                raise
            return Outcome(owned.stopping)
        except LeaseLost:
            owned.writer.journal.lose()
            return None
        except Exception as error:  # noqa: BLE001 - any error must end the run
            return Outcome(RunStatus.FAILED, error=explain_failure(error))

    async def _answer_in_time(self, answerer: Answerer) -> Outcome:
        try:
            async with asyncio.timeout(self._resources.settings.answering.max_run_s) as limit:
                return await answerer.answer()
        except TimeoutError:
            if not limit.expired():
                raise
            raise TransientFailure("run_timeout", "The answer took too long; it was ended.") from None


def _record_outcome(outcome: Outcome, traced: Span, *, duration_s: float) -> None:
    code = outcome.error.code if outcome.error else None
    log.info("run_finished", status=outcome.status, code=code)
    RUNS.labels(outcome.status, code or "").inc()
    RUN_DURATION.labels(outcome.status).observe(duration_s)
    if outcome.status is not RunStatus.COMPLETED:
        traced.fail(code or outcome.status)


def explain_failure(error: Exception) -> FailureInfo:
    """Return the error that ended a run in the form that clients see; an unexpected error is logged."""
    match error:
        case WorkError():
            is_retryable = isinstance(error, (TransientFailure, OutageFailure))
            return FailureInfo(error.work_code, error.detail, is_retryable)
        case RequestError():
            return FailureInfo(error.code, error.detail, isinstance(error, (Overloaded, Unavailable)))
    if isinstance(error, DATABASE_TROUBLE):
        log.warning("run_failed", error=error)
        return FailureInfo(Unavailable.code, Unavailable().detail, retryable=True)
    log.error("run_failed", exc_info=error)
    return FailureInfo("internal", "An unexpected error occurred.", retryable=True)
