"""The job queues, for the operator: /v1/admin/queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import Queue, RunningJob
from ragsvc.errors.requests import NotFound
from ragsvc.http.auth import Access
from ragsvc.http.contract.bodies import Body, read_body
from ragsvc.http.contract.ids import ShownJobId, ShownTime, ShownWorkspaceId
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import SubjectView, json_response, render_subject, render_time
from ragsvc.http.state import resources_of
from ragsvc.jobs import queues

if TYPE_CHECKING:
    from ragsvc.jobs.queues import QueueReport


routes = web.RouteTableDef()


class PauseBody(Body):
    """Why a queue is paused."""

    reason: Annotated[str, Field(max_length=500)] | None = None


def parse_queue(request: web.Request) -> Queue:
    """Return the queue named in the path.

    Raises:
        NotFound: there is no such queue.
    """
    try:
        return Queue(request.match_info["queue"])
    except ValueError:
        raise NotFound from None


class RunningJobView(TypedDict):
    """A job that a worker is running; `lease_left_s` is negative once its lease has expired."""

    job_id: ShownJobId
    workspace_id: ShownWorkspaceId
    subject: SubjectView
    worker: str
    stage: str | None
    progress: float
    attempts: int
    rescues: int
    running_s: float
    lease_left_s: float


class QueueView(TypedDict):
    """A queue's state; `next_probe_at` is set while it is paused because a provider is down."""

    queue: Queue
    queued: int
    ready: int
    running: int
    dead: int
    dead_for_service: int
    oldest_ready_age_s: float | None
    done_per_minute: float
    dead_per_minute: float
    workers: int
    workers_last_seen_s: float | None
    paused: bool
    reason: str | None
    paused_since: ShownTime | None
    next_probe_at: ShownTime | None
    leases: list[RunningJobView]


class QueuesView(TypedDict):
    """Every queue."""

    data: list[QueueView]


def render_queue(report: QueueReport) -> QueueView:
    """Return a queue with the jobs that its workers are running."""
    depth = report.depth
    return {
        "queue": depth.queue,
        "queued": depth.queued,
        "ready": depth.ready,
        "running": depth.running,
        "dead": depth.dead,
        "dead_for_service": depth.dead_for_service,
        "oldest_ready_age_s": depth.oldest_ready_age_s,
        "done_per_minute": depth.done_per_minute,
        "dead_per_minute": depth.dead_per_minute,
        "workers": report.workers.alive,
        "workers_last_seen_s": report.workers.last_seen_age_s,
        "paused": depth.paused,
        "reason": depth.reason,
        "paused_since": render_time(depth.state_since) if depth.paused else None,
        "next_probe_at": render_time(depth.next_probe_at) if depth.next_probe_at else None,
        "leases": [_render_running_job(job) for job in report.running],
    }


def _render_running_job(job: RunningJob) -> RunningJobView:
    return {
        "job_id": format_id("job", job.job_id),
        "workspace_id": format_id("ws", job.workspace_id),
        "subject": render_subject(job.subject_kind, job.subject_id),
        "worker": job.worker,
        "stage": job.stage,
        "progress": job.progress,
        "attempts": job.attempts,
        "rescues": job.rescues,
        "running_s": job.running_s,
        "lease_left_s": job.lease_left_s,
    }


@routes.get("/v1/admin/queues")
@operation("Show the queues", Access.ADMIN, responses={200: QueuesView})
async def list_queues(request: web.Request) -> web.Response:
    """Return each queue's depth, throughput and running jobs, and the reason if it is paused."""
    reports = await queues.report_queues(resources_of(request))
    return json_response({"data": [render_queue(report) for report in reports]})


@routes.post("/v1/admin/queues/{queue}/pause")
@operation("Pause a queue", Access.ADMIN, body=PauseBody, body_optional=True, responses={200: QueueView})
async def pause_queue(request: web.Request) -> web.Response:
    """Stop workers from starting jobs of the queue; running jobs continue."""
    queue = parse_queue(request)
    body = await read_body(request, PauseBody, optional=True)
    return json_response(render_queue(await queues.pause_queue(resources_of(request), queue, reason=body.reason)))


@routes.post("/v1/admin/queues/{queue}/resume")
@operation("Resume a queue", Access.ADMIN, responses={200: QueueView})
async def resume_queue(request: web.Request) -> web.Response:
    """Let workers start jobs of the queue again, immediately."""
    return json_response(render_queue(await queues.resume_queue(resources_of(request), parse_queue(request))))
