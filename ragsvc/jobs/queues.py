"""Reports the state of the queues, and pauses and resumes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import queue_state, workers
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.jobs.sweeper import notify_waiting

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.jobs import Queue, QueueDepth, RunningJob
    from ragsvc.domain.workers import WorkerCount
    from ragsvc.resources import Resources

# The longest-running jobs come first: those are the ones an operator looks for.
MAX_RUNNING_JOBS = 200

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class QueueReport:
    """A queue's counters, its live workers, and the jobs that they are running, at most MAX_RUNNING_JOBS."""

    depth: QueueDepth
    running: list[RunningJob]
    workers: WorkerCount


async def report_queues(resources: Resources) -> list[QueueReport]:
    """Return the state of every queue."""
    async with resources.pool.acquire() as conn:
        return [await _report(conn, depth) for depth in await queue_state.select_queue_depths(conn)]


async def pause_queue(resources: Resources, queue: Queue, *, reason: str | None) -> QueueReport:
    """Stop workers from starting jobs of the queue; running jobs continue."""
    return await _set_paused(resources, queue, paused=True, reason=reason)


async def resume_queue(resources: Resources, queue: Queue) -> QueueReport:
    """Let workers start jobs of the queue again, and notify them of those that are due."""
    report = await _set_paused(resources, queue, paused=False, reason=None)
    await notify_waiting(resources, queue)
    return report


async def _set_paused(resources: Resources, queue: Queue, *, paused: bool, reason: str | None) -> QueueReport:
    action = AuditAction.QUEUE_PAUSED if paused else AuditAction.QUEUE_RESUMED
    async with resources.pool.acquire() as conn:
        async with conn.transaction():
            await queue_state.update_paused(conn, queue, paused=paused, reason=reason)
            await insert_audit_event(conn, action, subject=(AuditSubject.QUEUE, queue), details={"reason": reason})
        depths = await queue_state.select_queue_depths(conn)
        report = await _report(conn, next(depth for depth in depths if depth.queue is queue))
    log.info("queue_paused" if paused else "queue_resumed", queue=queue, reason=reason)
    return report


async def _report(conn: Connection, depth: QueueDepth) -> QueueReport:
    running = await queue_state.select_running_jobs(conn, depth.queue, limit=MAX_RUNNING_JOBS)
    counts = await workers.select_worker_counts(conn)
    return QueueReport(depth, running, next(count for count in counts if count.queue is depth.queue))
