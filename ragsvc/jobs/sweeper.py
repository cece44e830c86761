"""The sweeper of the queues: rescues jobs of silent workers and repairs notifications and dead-letter lists."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import jobs, overdue_jobs
from ragsvc.domain.jobs import Queue
from ragsvc.jobs import dead_letters, lifecycle
from ragsvc.queue.notifier import Notification
from ragsvc.telemetry.metrics import JOBS_SWEPT
from ragsvc.telemetry.sweep_items import sweep_each

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources

BATCH = 1000
# Longest time that resuming a queue waits for notifications to be sent.
NOTIFY_WAITING_TIMEOUT_S = 5.0

# Longest time that one sweep spends on the notifications of a queue.
NOTIFY_OVERDUE_S = 2.0
# Grace period before an overdue job is swept: its notification was probably just sent.
GRACE_S = 2.0

log = structlog.get_logger(__name__)


async def sweep_jobs(resources: Resources) -> int:
    """Repair both queues once and return how many notifications had to be sent again.

    Only one process at a time does this; in the others the call returns 0 immediately.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        if not await jobs.try_lock(conn, f"{resources.settings.stores.queue_prefix}:sweep"):
            return 0
    swept = 0
    for queue in Queue:
        swept += await _notify_overdue(resources, queue)
    JOBS_SWEPT.inc(swept)
    if swept:
        log.warning("jobs_swept", jobs=swept)
    await sweep_each(list(Queue), lambda queue: _rescue_silent(resources, queue), kind="rescues")
    await sweep_each(list(Queue), lambda queue: _remove_stale_notifications(resources, queue), kind="notifications")
    await sweep_each(list(Queue), lambda queue: dead_letters.reconcile(resources, queue), kind="dead_letters")
    return swept


async def notify_waiting(resources: Resources, queue: Queue) -> int:
    """Notify workers of the jobs that wait on a resumed queue, and return how many notifications were sent.

    Workers consumed the earlier notifications while the queue was paused. If this times out, the sweeper sends the
    rest.
    """
    try:
        async with asyncio.timeout(NOTIFY_WAITING_TIMEOUT_S):
            async with resources.pool.acquire() as conn:
                waiting = await overdue_jobs.select_overdue_jobs(conn, queue, grace_s=0, limit=BATCH)
            return await resources.notifier.notify_missing(waiting)
    except TimeoutError:
        log.warning("resumed_queue_not_notified", queue=queue)
        return 0


async def _notify_overdue(resources: Resources, queue: Queue) -> int:
    """Send the missing notifications of the queue's overdue jobs and return how many were sent.

    If notifications were missing in one page, those of the jobs behind it are probably missing too.
    """
    swept, end = 0, time.monotonic() + NOTIFY_OVERDUE_S
    last: Job | None = None
    while time.monotonic() < end:
        async with resources.pool.acquire() as conn:
            page = await overdue_jobs.select_overdue_jobs(conn, queue, grace_s=GRACE_S, limit=BATCH, after=last)
        sent = await resources.notifier.notify_missing(page)
        swept += sent
        if not sent or len(page) < BATCH:
            break
        last = page[-1]
    return swept


async def _rescue_silent(resources: Resources, queue: Queue) -> None:
    async with resources.pool.acquire() as conn:
        silent = await overdue_jobs.select_expired_leases(conn, queue, limit=BATCH)

    async def rescue(job: Job) -> None:
        rescued = await lifecycle.rescue(resources.pool, job)
        if rescued is not None:
            await resources.notifier.remove(job.queue, Notification(job.id, job.generation))
            await resources.notifier.notify(rescued)

    await sweep_each(silent, rescue, kind="job")


async def _remove_stale_notifications(resources: Resources, queue: Queue) -> None:
    """Remove notifications of finished jobs: their worker died after its commit and before arq cleaned up."""
    pending = await resources.notifier.pending(queue, limit=BATCH)
    if not pending:
        return
    async with resources.pool.acquire() as conn:
        active = await overdue_jobs.select_active_generations(conn, [notification.job_id for notification in pending])
    for notification in pending:
        if active.get(notification.job_id) != notification.generation:
            await resources.notifier.remove(queue, notification)
