"""Fixtures for the tests of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.jobs import lifecycle
from tests.support.documents.documents import accept, job_of

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


@pytest.fixture
async def document(resources: Resources, workspace: Workspace) -> Document:
    """A newly accepted document."""
    return await accept(resources, workspace)


@pytest.fixture
async def job(resources: Resources, document: Document) -> Job:
    """The queued job of the document."""
    return await job_of(resources, document)


@pytest.fixture
async def claimed(resources: Resources, job: Job) -> Job:
    """The job, claimed by a worker with a lease of 30 s."""
    claimed = await lifecycle.claim(resources.pool, job.id, queue=job.queue, owner="worker-1", lease_s=30)
    assert claimed is not None
    return claimed
