"""Our worker with a job that only waits: `arq tests.bench.queue.ragsvc_worker.BenchSettings`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ragsvc.db import jobs
from ragsvc.domain.jobs import Queue
from ragsvc.workers import _settings_class, runner
from tests.bench.queue.journal import Journal

if TYPE_CHECKING:
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

journal = Journal.of_environment()


async def start(ctx: dict[str, Any]) -> None:
    """Open the worker's resources."""
    await runner.start(ctx, queue=Queue.INGESTION)


async def wait(ctx: dict[str, Any], job_id: str) -> None:
    """Claim the job, wait as long as its payload says, and finish it, as real work does."""

    async def work(resources: Resources, lease: Lease) -> None:
        journal.note("start", int(str(lease.job.payload["n"])))
        await asyncio.sleep(float(str(lease.job.payload["wait_s"])))
        async with resources.pool.acquire() as conn:
            await jobs.finish_job(conn, lease.job)
        journal.note("end", int(str(lease.job.payload["n"])))

    await runner.run_job(ctx, job_id, work)


BenchSettings = _settings_class("BenchSettings", Queue.INGESTION, start, wait)
