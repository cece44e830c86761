"""Notifies workers through arq that a job in Postgres is due; a lost notification delays a job but never loses it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.utils import to_unix_ms

from ragsvc.domain.jobs import JobKind, Queue
from ragsvc.queue.connection import REDIS_TROUBLE, queue_name, wake_channel
from ragsvc.telemetry.metrics import NOTIFICATIONS
from ragsvc.telemetry.spans import SpanKind
from ragsvc.telemetry.traces import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.domain.jobs import Job
    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings

# The functions that arq calls in the workers, by name, so that producers need not import the workers.
JOB_FUNCTIONS = {Queue.INGESTION: "ingest_document", Queue.DELETION: "delete_subject"}
# Longest wait for Redis; the sweeper re-sends lost notifications.
NOTIFY_TIMEOUT_S = 2.0
# arq compares a notification's time with the worker's clock. A notification dated a day back is due on any node,
# whatever its clock skew.
CLOCK_TOLERANCE = timedelta(days=1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification in Redis: the job, and the generation of the job that it was sent for."""

    job_id: UUID
    generation: int


class Notifier:
    """Sends notifications about jobs; no method raises an error of Redis."""

    def __init__(self, redis: RedisConnection, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    async def notify(self, job: Job) -> bool:
        """Notify the workers of a queued job; False if arq already had the notification or Redis is unavailable.

        Nothing is sent for a delivery, because the workers look for those in Postgres.
        """
        if job.kind is JobKind.DELIVER:
            return False
        with span(
            f"send {job.queue}", SpanKind.PRODUCER, {"messaging.system": "arq", "messaging.destination.name": job.queue}
        ):
            return await self._notify(job)

    async def _notify(self, job: Job) -> bool:
        queue_key = queue_name(self._settings, job.queue)
        try:
            async with asyncio.timeout(NOTIFY_TIMEOUT_S):
                now = datetime.now(UTC)
                enqueued = await self._redis.enqueue_job(
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
        NOTIFICATIONS.labels(job.queue, "duplicate" if enqueued is None else "enqueued").inc()
        return enqueued is not None

    async def notify_missing(self, jobs: Sequence[Job]) -> int:
        """Send the notifications of overdue jobs that Redis lost in whole or in part, and return how many were sent.

        A notification dated in the future by a skewed clock is made due. Its in-progress mark is removed: if the
        connection broke before a worker received Redis's reply, arq would skip the notification for a day. If a worker
        did take it up just now, two workers may try to claim the job, and Postgres lets only one succeed.
        """
        jobs = [job for job in jobs if job.kind is not JobKind.DELIVER]
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
                replies = await pipe.execute()
        except REDIS_TROUBLE as error:
            log.warning("missing_notifications_not_sent", jobs=len(jobs), error=error)
            return 0
        swept = 0
        for job, has_body, score in zip(jobs, replies[::4], replies[1::4], strict=True):
            if has_body and score is None:
                # Redis evicted the queue but not the body, and arq refuses a notification whose body exists.
                await self.remove(job.queue, Notification(job.id, job.generation))
            if not has_body or score is None:
                swept += await self.notify(job)
        return swept

    async def pending(self, queue: Queue, *, limit: int) -> list[Notification]:
        """Return the notifications at the head of the queue, including those in progress; [] without Redis."""
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

    async def remove(self, queue: Queue, notification: Notification) -> None:
        """Remove a notification and its marks.

        After a worker is killed, they would otherwise stay at the head of the queue for a day.
        """
        notification_id = self._notification_id(queue, notification.job_id, notification.generation)
        try:
            async with asyncio.timeout(NOTIFY_TIMEOUT_S), self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(queue_name(self._settings, queue), notification_id)
                pipe.delete(
                    *(prefix + notification_id for prefix in (job_key_prefix, in_progress_key_prefix, retry_key_prefix))
                )
                await pipe.execute()
        except REDIS_TROUBLE as error:
            log.warning("notification_not_removed", job_id=notification.job_id, error=error)

    def _notification_id(self, queue: Queue, job_id: UUID, generation: int) -> str:
        # arq drops an id that it already knows on any queue, so the id contains the generation.
        return f"{queue_name(self._settings, queue)}:{job_id.hex}:{generation}"


def _parse_notification(text: str) -> Notification | None:
    """Parse `{job id}:{generation}` into a notification; return None if the text has any other format."""
    job_id, _, generation = text.partition(":")
    try:
        return Notification(UUID(job_id), int(generation))
    except ValueError:
        return None
