"""Changes to jobs that tests make directly in Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources


async def expire(resources: Resources, job: Job) -> None:
    """Let the job's lease expire, as if its worker had been silent for a long time."""
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE id = $1", job.id)
