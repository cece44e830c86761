"""The deletion worker's job."""

from __future__ import annotations

from typing import Any

from ragsvc.deletion.execution import delete
from ragsvc.models.jobs import Queue
from ragsvc.workers import runner


async def start(ctx: dict[str, Any]) -> None:
    """Open the worker's resources."""
    await runner.start(ctx, queue=Queue.DELETION)


async def delete_subject(ctx: dict[str, Any], job_id: str) -> None:
    """Remove one subject and write its receipt."""
    await runner.run_job(ctx, job_id, delete)
