"""The lease of a running job: its renewal in the background, and the fence that guards every write of its work."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import documents, jobs
from ragsvc.domain.documents import Stage
from ragsvc.errors.work import LeaseLost, TransientFailure
from ragsvc.tasks import cancel_and_wait, keep_renewed
from ragsvc.telemetry.metrics import INGESTION_STAGE_DURATION
from ragsvc.telemetry.traces import span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.db.connections.pool import Connection, Pool
    from ragsvc.domain.jobs import Job
    from ragsvc.settings.settings import Settings

# The progress range of each ingestion stage, roughly proportional to its duration.
STAGE_SPANS = {
    Stage.DOWNLOADING: (0.0, 0.05),
    Stage.PARSING: (0.05, 0.2),
    Stage.CHUNKING: (0.2, 0.25),
    Stage.EMBEDDING: (0.25, 0.95),
    Stage.FINALIZING: (0.95, 1.0),
}
# Progress is shown to people, so a few reports per second are enough.
REPORT_INTERVAL_S = 0.2

log = structlog.get_logger(__name__)


class Lease:
    """This worker's lease on a job."""

    def __init__(self, pool: Pool, job: Job, settings: Settings) -> None:
        self.job = job
        self._pool = pool
        self._lease_s = settings.jobs.job_lease_s
        self._timeout_s = settings.jobs.job_timeout_s
        self._time_limit: asyncio.Timeout | None = None
        self._furthest = 0.0
        self._reported: tuple[Stage | None, float] = (None, 0.0)
        self._stage: tuple[Stage | None, float] = (None, 0.0)
        self._stage_span = ExitStack()

    async def fence(self, conn: Connection) -> None:
        """Lock the job's row, so that the lease cannot change hands before the transaction ends.

        Call this after the writes that it guards, right before the commit.

        Raises:
            LeaseLost: another worker has the job, or it was cancelled.
        """
        if not await jobs.fence(conn, self.job):
            raise LeaseLost

    async def report(self, stage: Stage, fraction: float = 0.0) -> None:
        """Report the stage and the completed fraction of it (0 to 1).

        Raises:
            LeaseLost: another worker has the job, or it was cancelled.
        """
        self._measure_stage(stage)
        begin, end = STAGE_SPANS[stage]
        progress = begin + (end - begin) * fraction
        self._extend_time_limit(progress)
        shown, at = self._reported
        if shown is stage and fraction < 1 and time.monotonic() - at < REPORT_INTERVAL_S:
            return
        self._reported = (stage, time.monotonic())
        async with self._pool.acquire() as conn, conn.transaction():
            await documents.update_stage(
                conn, self.job.workspace_id, self.job.subject_id, stage=stage, progress=progress
            )
            if not await jobs.update_progress(conn, self.job, stage=stage, progress=progress):
                raise LeaseLost

    async def advance(self, fraction: float = 0.0) -> None:
        """Report that a job without stages has done another part of its work; `fraction` is that of all parts so far.

        Such a job never does a part twice, so each part restarts the time limit and shows that the job does not kill
        its workers, whatever fraction of the whole it is.

        Raises:
            LeaseLost: another worker has the job, or it was cancelled.
        """
        self._restart_time_limit()
        if time.monotonic() - self._reported[1] < REPORT_INTERVAL_S:
            return
        self._reported = (None, time.monotonic())
        async with self._pool.acquire() as conn:
            if not await jobs.update_parts_done(conn, self.job, progress=fraction):
                raise LeaseLost

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Renew the lease while the body runs, and cancel the body when the lease is lost.

        Raises:
            LeaseLost: another worker has the job, or it was cancelled.
        """
        body = asyncio.current_task()
        assert body is not None  # noqa: S101 - a coroutine runs in a task
        renewal = asyncio.create_task(
            keep_renewed(
                self._renew,
                interval_s=self._lease_s / 3,
                lease_s=self._lease_s,
                event="lease_not_renewed",
                job_id=self.job.id,
            )
        )
        lost = finished = False

        def cancel_body(done: asyncio.Task[None]) -> None:
            nonlocal lost
            # Removing a callback does not stop one that is already scheduled.
            if not done.cancelled() and not finished:
                lost = True
                body.cancel()

        renewal.add_done_callback(cancel_body)
        try:
            yield
        except asyncio.CancelledError:
            if not lost:
                raise
            body.uncancel()
            raise LeaseLost from None
        finally:
            finished = True
            self._measure_stage(None)
            renewal.remove_done_callback(cancel_body)
            await cancel_and_wait(renewal)

    @asynccontextmanager
    async def time_limited(self) -> AsyncIterator[None]:
        """Cancel the body when it has made no progress for JOB_TIMEOUT_S.

        Raises:
            TransientFailure: `timeout`.
        """
        limit = self._time_limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise TransientFailure("timeout", f"the job made no progress for {self._timeout_s:g} s") from None
        finally:
            self._time_limit = None

    def _extend_time_limit(self, progress: float) -> None:
        """Restart the time limit at each step of progress, since a large document can take long overall."""
        if progress > self._furthest:
            self._furthest = progress
            self._restart_time_limit()

    def _restart_time_limit(self) -> None:
        if self._time_limit is not None and not self._time_limit.expired():
            self._time_limit.reschedule(asyncio.get_running_loop().time() + self._timeout_s)

    def _measure_stage(self, stage: Stage | None) -> None:
        """Record the duration of the stage that ends as this one begins; None ends the last stage."""
        before, since = self._stage
        if before is stage:
            return
        now = time.monotonic()
        if before is not None:
            INGESTION_STAGE_DURATION.labels(before).observe(now - since)
        self._stage = stage, now
        self._stage_span.close()
        if stage is not None:
            self._stage_span.enter_context(span(stage))

    async def _renew(self) -> bool:
        async with self._pool.acquire() as conn:
            return await jobs.renew_lease(conn, self.job, lease_s=self._lease_s)
