"""Observability of one attempt at a job: its ids in every log line, its span, outcome and duration."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import format_subject_id
from ragsvc.telemetry.metrics import JOB_ATTEMPTS, JOB_DURATION, JOB_LEASES_LOST, JOBS_RUNNING
from ragsvc.telemetry.spans import SpanKind
from ragsvc.telemetry.traces import span, trace_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.domain.jobs import Job


class Outcome(StrEnum):
    """The outcome of an attempt."""

    DONE = "done"
    RETRIED = "retried"
    DEAD = "dead"
    HANDED_BACK = "handed_back"
    LEASE_LOST = "lease_lost"
    CANCELLED = "cancelled"
    # The outcome could not be stored in Postgres; the lease expires and the job is rescued.
    UNSETTLED = "unsettled"


@dataclass(slots=True)
class Attempt:
    """A running attempt; the runner sets its outcome and the code of its error."""

    outcome: Outcome = Outcome.UNSETTLED
    code: str = ""


@contextmanager
def track_attempt(job: Job) -> Iterator[Attempt]:
    """Bind the attempt's ids to log events and a span, and count it when it ends."""
    attempt = Attempt()
    started = time.perf_counter()
    ids = {"queue": job.queue, "workspace_id": format_id("ws", job.workspace_id), "subject_id": _subject_id(job)}
    if trace_id_of(job.trace_id) is None:
        ids["request_id"] = job.trace_id or ""
    with (
        structlog.contextvars.bound_contextvars(**ids),
        JOBS_RUNNING.labels(job.queue).track_inprogress(),
        span(f"process {job.queue}", SpanKind.CONSUMER, _describe(job), parent=job.trace_id) as traced,
    ):
        try:
            yield attempt
        finally:
            JOB_ATTEMPTS.labels(job.queue, attempt.outcome, attempt.code).inc()
            JOB_DURATION.labels(job.queue, attempt.outcome).observe(time.perf_counter() - started)
            if attempt.outcome is Outcome.LEASE_LOST:
                JOB_LEASES_LOST.labels(job.queue).inc()
            if attempt.outcome is not Outcome.DONE:
                traced.fail(attempt.code or attempt.outcome)


def _subject_id(job: Job) -> str:
    return format_subject_id(job.subject_kind, job.subject_id)


def _describe(job: Job) -> dict[str, str | int]:
    return {
        "messaging.system": "arq",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": format_id("job", job.id),
        "ragsvc.workspace_id": format_id("ws", job.workspace_id),
        "ragsvc.subject_id": _subject_id(job),
        "ragsvc.attempt": job.attempts,
    }
