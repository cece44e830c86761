"""What the tests of jobs start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.jobs import lifecycle
from tests.support.documents import accept, job_of

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


@pytest.fixture
async def document(resources: Resources, workspace: Workspace) -> Document:
    """A document that was just accepted."""
    return await accept(resources, workspace)


@pytest.fixture
async def job(resources: Resources, document: Document) -> Job:
    """Its queued job."""
    return await job_of(resources, document)


@pytest.fixture
async def claimed(resources: Resources, job: Job) -> Job:
    """The job, held by a worker for 30 seconds."""
    held = await lifecycle.claim(resources.pool, job.id, owner="worker-1", lease_s=30)
    assert held is not None
    return held


async def expire(resources: Resources, job: Job) -> None:
    """Let the job's lease run out, as if its worker had been silent for long."""
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE id = $1", job.id)
