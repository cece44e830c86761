"""The ingestion worker's job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragsvc.domain.jobs import Queue
from ragsvc.ingestion.pipeline import ingest
from ragsvc.ingestion.sandbox.pool import open_sandbox
from ragsvc.ingestion.scratch import open_scratch
from ragsvc.workers import runner

if TYPE_CHECKING:
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources


async def start(ctx: dict[str, Any]) -> None:
    """Open the worker's resources, its scratch folder and its parsing processes."""
    settings = ctx["settings"]
    stack = await runner.start(ctx, queue=Queue.INGESTION)
    ctx["scratch"] = stack.enter_context(open_scratch())
    ctx["sandbox"] = await stack.enter_async_context(open_sandbox(settings))


async def ingest_document(ctx: dict[str, Any], job_id: str) -> None:
    """Ingest one document."""

    async def work(resources: Resources, lease: Lease) -> None:
        await ingest(resources, lease, sandbox=ctx["sandbox"], scratch=ctx["scratch"])

    await runner.run_job(ctx, job_id, work)
