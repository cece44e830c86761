"""What happened to anything that has an id, for the operator: /v1/admin/trace."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.db import operator_traces
from ragsvc.domain.ids import format_id, new_id
from ragsvc.domain.jobs import JobKind, JobStatus, Queue
from ragsvc.errors.requests import NotFound
from ragsvc.http.auth import Access
from ragsvc.http.contract.ids import (
    ShownJobId,
    ShownMessageId,
    ShownRunId,
    ShownSessionId,
    ShownTime,
    ShownWorkspaceId,
)
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import (
    SubjectView,
    json_response,
    render_optional_time,
    render_subject,
    render_time,
)
from ragsvc.http.state import resources_of
from ragsvc.http.v1.admin_audit import AuditEventView, render_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.db.connections.pool import Connection
    from ragsvc.db.operator_traces import TracedRun
    from ragsvc.domain.audit import AuditEvent
    from ragsvc.domain.jobs import Job

routes = web.RouteTableDef()

MAX_ITEMS = 100
# A public id, with or without its prefix and dashes, and with the generation of a dead letter.
_ANY_ID = re.compile(r"(?:[a-z]+_)?([0-9a-f]{8}(-?)[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12})(?::\d{1,9})?")
# Every request id that a client can choose matches this too.
_TRACEABLE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# How long before now a request whose id does not contain its time is looked for.
_OTHER_REQUESTS_AGE = timedelta(days=7)
_RANDOM_BITS = 80
_UUID_VERSION = 7


class TracedJobView(TypedDict):
    """A job, with its attempts so far; `error` is the last attempt's."""

    job_id: ShownJobId
    workspace_id: ShownWorkspaceId
    queue: Queue
    kind: JobKind
    subject: SubjectView
    status: JobStatus
    stage: str | None
    progress: float
    attempts: int
    max_attempts: int
    rescues: int
    replay_count: int
    worker: str | None
    error: dict[str, object] | None
    request_id: str | None
    enqueued_at: ShownTime
    claimed_at: ShownTime | None
    first_failed_at: ShownTime | None
    last_failed_at: ShownTime | None
    next_attempt_at: ShownTime | None


class TracedRunView(TypedDict):
    """A run, without its texts."""

    run_id: ShownRunId
    workspace_id: ShownWorkspaceId
    session_id: ShownSessionId
    message_id: ShownMessageId
    status: str
    error: dict[str, object] | None
    created_at: ShownTime
    completed_at: ShownTime | None


class MomentView(TypedDict):
    """Something that happened."""

    at: ShownTime
    event: str
    id: str


class TraceView(TypedDict):
    """What is known about an id; each list has at most 100 items."""

    id: str
    request_ids: list[str]
    jobs: list[TracedJobView]
    runs: list[TracedRunView]
    events: list[AuditEventView]
    timeline: list[MomentView]


@routes.get("/v1/admin/trace/{id}")
@operation("Trace an id", Access.ADMIN, responses={200: TraceView})
async def trace_id(request: web.Request) -> web.Response:
    """Return the jobs, runs and audit events that belong to any id: of a request, job, document, deletion, run, ….

    The prefix and dashes can be omitted. A request id leads to the jobs that the request queued.
    """
    wanted = request.match_info["id"]
    if not _TRACEABLE.fullmatch(wanted):
        raise NotFound
    async with resources_of(request).pool.acquire() as conn:
        jobs, runs = await _find(conn, wanted)
        request_ids = list(dict.fromkeys(job.trace_id for job in jobs if job.trace_id)) or [wanted]
        since = min((_lowest_id(one) for one in request_ids), key=lambda lowest: lowest.int)
        events = await operator_traces.select_events_of_requests(conn, request_ids, since=since, limit=MAX_ITEMS)
    if not (jobs or runs or events):
        raise NotFound
    return json_response(
        TraceView(
            id=wanted,
            request_ids=[one for one in request_ids if jobs or events],
            jobs=[_render_job(job) for job in jobs],
            runs=[_render_run(run) for run in runs],
            events=[render_event(event) for event in events],
            timeline=_render_timeline(jobs, runs, events),
        )
    )


async def _find(conn: Connection, wanted: str) -> tuple[list[Job], list[TracedRun]]:
    jobs = await operator_traces.select_jobs_of_request(conn, wanted, since=_lowest_id(wanted), limit=MAX_ITEMS)
    traced = _read_any_id(wanted)
    if jobs or traced is None:
        return jobs, []
    return (
        await operator_traces.select_traced_jobs(conn, traced, limit=MAX_ITEMS),
        await operator_traces.select_traced_runs(conn, traced, limit=MAX_ITEMS),
    )


def _read_any_id(text: str) -> UUID | None:
    match = _ANY_ID.fullmatch(text)
    return UUID(match[1]) if match else None


def _lowest_id(request_id: str) -> UUID:
    """Return the lowest id of what the request created: ids are UUIDv7 and begin with milliseconds."""
    found = _read_any_id(request_id)
    if found is None or found.version != _UUID_VERSION:
        age_ms = int(_OTHER_REQUESTS_AGE.total_seconds() * 1000)
        return UUID(int=((new_id().int >> _RANDOM_BITS) - age_ms) << _RANDOM_BITS)
    # A minute earlier, since the clocks of two processes differ.
    return UUID(int=max((found.int >> _RANDOM_BITS) - 60_000, 0) << _RANDOM_BITS)


def _render_job(job: Job) -> TracedJobView:
    return {
        "job_id": format_id("job", job.id),
        "workspace_id": format_id("ws", job.workspace_id),
        "queue": job.queue,
        "kind": job.kind,
        "subject": render_subject(job.subject_kind, job.subject_id),
        "status": job.status,
        "stage": job.stage,
        "progress": round(job.progress, 4),
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "rescues": job.rescues,
        "replay_count": job.replay_count,
        "worker": job.lease_owner,
        "error": job.error,
        "request_id": job.trace_id,
        "enqueued_at": render_time(job.created_at),
        "claimed_at": render_optional_time(job.claimed_at),
        "first_failed_at": render_optional_time(job.first_failed_at),
        "last_failed_at": render_optional_time(job.last_failed_at),
        "next_attempt_at": render_time(job.run_at) if job.status is JobStatus.QUEUED else None,
    }


def _render_run(run: TracedRun) -> TracedRunView:
    return {
        "run_id": format_id("run", run.id),
        "workspace_id": format_id("ws", run.workspace_id),
        "session_id": format_id("chat", run.session_id),
        "message_id": format_id("msg", run.message_id),
        "status": run.status,
        "error": run.error,
        "created_at": render_time(run.created_at),
        "completed_at": render_optional_time(run.finished_at),
    }


def _render_timeline(jobs: list[Job], runs: list[TracedRun], events: list[AuditEvent]) -> list[MomentView]:
    moments = [*_moments_of_jobs(jobs), *_moments_of_runs(runs)]
    moments += [
        MomentView(at=render_time(one.occurred_at), event=one.action, id=format_id("aud", one.id)) for one in events
    ]
    return sorted(moments, key=lambda moment: moment["at"])


def _moments_of_jobs(jobs: list[Job]) -> Iterator[MomentView]:
    for job in jobs:
        times = {
            "job queued": job.created_at,
            "attempt started": job.claimed_at,
            "attempt failed first": job.first_failed_at,
            "attempt failed last": job.last_failed_at,
        }
        for event, at in times.items():
            if at is not None:
                yield MomentView(at=render_time(at), event=event, id=format_id("job", job.id))


def _moments_of_runs(runs: list[TracedRun]) -> Iterator[MomentView]:
    for run in runs:
        yield MomentView(at=render_time(run.created_at), event="run started", id=format_id("run", run.id))
        if run.finished_at is not None:
            yield MomentView(at=render_time(run.finished_at), event=f"run {run.status}", id=format_id("run", run.id))
