"""A worker that freezes or vanishes while it writes a build holds no lock that keeps its job from being rescued."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.jobs import JobStatus
from ragsvc.errors.work import LeaseLost
from ragsvc.jobs import lifecycle
from ragsvc.jobs.lease import Lease
from ragsvc.jobs.sweeper import sweep_jobs
from tests.support.documents.builds import build, write_unseen
from tests.support.documents.documents import accept, job_of, reload, reload_job
from tests.support.jobs import expire

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


async def test_a_job_is_rescued_while_its_frozen_worker_writes_and_the_late_rows_are_refused(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await accept(resources, workspace)
    queued = await job_of(resources, document)
    job = await lifecycle.claim(resources.pool, queued.id, queue=queued.queue, owner="frozen", lease_s=60)
    assert job is not None
    frozen, thawed = asyncio.Event(), asyncio.Event()
    fence = Lease.fence

    async def fence_later(lease: Lease, conn: Connection) -> None:
        if lease.job.lease_token == job.lease_token:
            frozen.set()
            await thawed.wait()
        await fence(lease, conn)

    monkeypatch.setattr(Lease, "fence", fence_later)
    writing = asyncio.create_task(write_unseen(resources, document, job))
    await frozen.wait()
    await expire(resources, job)
    await sweep_jobs(resources)
    assert (await reload_job(resources, job)).status is JobStatus.QUEUED
    await build(resources, document)
    thawed.set()
    with pytest.raises(LeaseLost):
        await writing
    async with resources.pool.acquire() as conn:
        builds = await conn.fetchval("SELECT count(DISTINCT build_id) FROM canonical_text")
    assert (builds, (await reload(resources, document)).version) == (1, 1)


async def test_postgres_ends_the_session_of_a_client_that_has_vanished(resources: Resources) -> None:
    async with resources.pool.acquire() as conn:
        shown = {
            name: await conn.fetchval(f"SHOW {name}")
            for name in ("tcp_keepalives_idle", "tcp_user_timeout", "idle_in_transaction_session_timeout")
        }
    assert shown == {
        "tcp_keepalives_idle": "15",
        "tcp_user_timeout": "30000",
        "idle_in_transaction_session_timeout": "30s",
    }
