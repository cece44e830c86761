"""The jobs of the deletion worker: deletions and bulk operations; beside them it delivers events to webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragsvc.bulk.execution import execute_bulk_operation
from ragsvc.deletion.execution import delete
from ragsvc.domain.jobs import JobKind, Queue
from ragsvc.tasks import in_background
from ragsvc.workers import runner
from ragsvc.workers.deliveries import DeliveryLane

if TYPE_CHECKING:
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources


async def start(ctx: dict[str, Any]) -> None:
    """Open the worker's resources and its lane for deliveries."""
    stack = await runner.start(ctx, queue=Queue.DELETION)
    await stack.enter_async_context(in_background(DeliveryLane(ctx).run()))


async def delete_subject(ctx: dict[str, Any], job_id: str) -> None:
    """Run one job: a deletion or a bulk operation."""
    await runner.run_job(ctx, job_id, _work)


async def _work(resources: Resources, lease: Lease) -> None:
    if lease.job.kind is JobKind.BULK:
        await execute_bulk_operation(resources, lease)
    else:
        await delete(resources, lease)
