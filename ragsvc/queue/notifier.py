"""The doorbell: tells workers through arq that a job of the table is due. Losing a ring loses no job."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.utils import to_unix_ms

from ragsvc.domain.jobs import Queue
from ragsvc.queue.connection import REDIS_TROUBLE, queue_name, wake_channel
from ragsvc.telemetry.metrics import NOTIFICATIONS
from ragsvc.telemetry.spans import SpanKind
from ragsvc.telemetry.traces import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.domain.jobs import Job
    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings

# What a worker's arq calls; `queue` knows names so that nobody else has to import the workers.
JOB_FUNCTIONS = {Queue.INGESTION: "ingest_document", Queue.DELETION: "delete_subject"}
# Nobody waits longer than this for Redis: the sweeper rings again.
NOTIFY_TIMEOUT_S = 2.0
# arq's worker compares a ring's time with its own clock. A ring that is a day old already is due by any node's clock.
CLOCK_TOLERANCE = timedelta(days=1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Notification:
    """A ring as it stands in Redis: for which job, and for which of its turns."""

    job_id: UUID
    generation: int


class Notifier:
    """Rings for jobs; never raises on Redis trouble."""

    def __init__(self, redis: RedisConnection, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    async def notify(self, job: Job) -> bool:
        """Tell the workers of a queued job; True when arq took the ring, False when it had it or Redis is away."""
        with span(
            f"send {job.queue}", SpanKind.PRODUCER, {"messaging.system": "arq", "messaging.destination.name": job.queue}
        ):
            return await self._notify(job)

    async def _notify(self, job: Job) -> bool:
        queue_key = queue_name(self._settings, job.queue)
        try:
            async with asyncio.timeout(NOTIFY_TIMEOUT_S):
                now = datetime.now(UTC)
                taken = await self._redis.enqueue_job(
                    JOB_FUNCTIONS[job.queue],
                    str(job.id),
                    _job_id=self._notification_id(job.queue, job.id, job.generation),
                    _queue_name=queue_key,
                    _defer_until=job.run_at if job.run_at > now else now - CLOCK_TOLERANCE,
                )
                await self._redis.publish(wake_channel(queue_key), b"1")
        except REDIS_TROUBLE as error:
            log.warning("notify_failed", job_id=job.id, error=error)
            NOTIFICATIONS.labels(job.queue, "failed").inc()
            return False
        NOTIFICATIONS.labels(job.queue, "known" if taken is None else "taken").inc()
        return taken is not None

    async def notify_missing(self, jobs: Sequence[Job]) -> int:
        """Ring for those of the overdue jobs that Redis does not know whole, and return how many arq took.

        A ring that Redis knows, but whose time is still to come by somebody's clock, is made due. One that a worker
        took up without knowing it, because the connection broke before Redis's answer, is free again: arq would pass
        over it for a day. A worker that took it up just now claims the job all the same, and only one can.
        """
        if not jobs:
            return 0
        due = datetime.now(UTC) - CLOCK_TOLERANCE
        try:
            async with asyncio.timeout(NOTIFY_TIMEOUT_S), self._redis.pipeline(transaction=False) as pipe:
                for job in jobs:
                    notification_id = self._notification_id(job.queue, job.id, job.generation)
                    pipe.exists(job_key_prefix + notification_id)
                    pipe.zscore(queue_name(self._settings, job.queue), notification_id)
                    pipe.zadd(
                        queue_name(self._settings, job.queue), {notification_id: to_unix_ms(due)}, xx=True, lt=True
                    )
                    pipe.delete(in_progress_key_prefix + notification_id)
                answers = await pipe.execute()
        except REDIS_TROUBLE as error:
            log.warning("sweep_cannot_notify", jobs=len(jobs), error=error)
            return 0
        swept = 0
        for job, has_body, score in zip(jobs, answers[::4], answers[1::4], strict=True):
            if has_body and score is None:
                # Redis evicted the queue and kept the body, for whose sake arq would take no new ring.
                await self.forget(job.queue, Notification(job.id, job.generation))
            if not has_body or score is None:
                swept += await self.notify(job)
        return swept

    async def pending(self, queue: Queue, *, limit: int) -> list[Notification]:
        """Return the rings at the head of the queue, those that workers are busy with too; none while Redis is away."""
        queue_key = queue_name(self._settings, queue)
        try:
            async with asyncio.timeout(NOTIFY_TIMEOUT_S):
                found = await self._redis.zrange(queue_key, 0, limit - 1)
        except REDIS_TROUBLE as error:
            log.warning("notifications_not_read", queue=queue, error=error)
            return []
        parsed = (
            _parse_notification(notification_id.decode(errors="replace").removeprefix(f"{queue_key}:"))
            for notification_id in found
        )
        return [notification for notification in parsed if notification is not None]

    async def forget(self, queue: Queue, notification: Notification) -> None:
        """Remove what a killed worker left of a ring, which would stand before the queue's others for a day."""
        notification_id = self._notification_id(queue, notification.job_id, notification.generation)
        try:
            async with asyncio.timeout(NOTIFY_TIMEOUT_S), self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(queue_name(self._settings, queue), notification_id)
                pipe.delete(
                    *(prefix + notification_id for prefix in (job_key_prefix, in_progress_key_prefix, retry_key_prefix))
                )
                await pipe.execute()
        except REDIS_TROUBLE as error:
            log.warning("notification_not_forgotten", job_id=notification.job_id, error=error)

    def _notification_id(self, queue: Queue, job_id: UUID, generation: int) -> str:
        # arq drops an id that it knows, on any queue, so a ring's id is fresh with each generation.
        return f"{queue_name(self._settings, queue)}:{job_id.hex}:{generation}"


def _parse_notification(text: str) -> Notification | None:
    """Return the ring of `{job id}:{generation}`; None for what is not one of ours."""
    job_id, _, generation = text.partition(":")
    try:
        return Notification(UUID(job_id), int(generation))
    except ValueError:
        return None
