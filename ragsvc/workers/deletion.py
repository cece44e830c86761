"""The jobs of the deletion worker: deletions, webhook deliveries and bulk operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragsvc.bulk.execution import execute_bulk_operation
from ragsvc.deletion.execution import delete
from ragsvc.domain.jobs import JobKind, Queue
from ragsvc.webhooks.delivery import deliver
from ragsvc.workers import runner

if TYPE_CHECKING:
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources


async def start(ctx: dict[str, Any]) -> None:
    """Open the worker's resources."""
    await runner.start(ctx, queue=Queue.DELETION)


async def delete_subject(ctx: dict[str, Any], job_id: str) -> None:
    """Run one job: a deletion, the delivery of an event, or a bulk operation."""
    await runner.run_job(ctx, job_id, _work)


async def _work(resources: Resources, lease: Lease) -> None:
    match lease.job.kind:
        case JobKind.DELIVER:
            await deliver(resources, lease)
        case JobKind.BULK:
            await execute_bulk_operation(resources, lease)
        case _:
            await delete(resources, lease)
