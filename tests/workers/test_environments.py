"""Two environments that share one Redis and are separated only by their prefixes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.jobs import JobStatus
from ragsvc.resources import open_resources
from tests.support.documents.documents import accept, job_of, reload, reload_job
from tests.support.polling import until
from tests.support.servers.databases import cloned
from tests.support.servers.redis import command
from tests.support.servers.worker_processes import working
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.documents import Document
    from ragsvc.queue.connection import RedisConnection
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

WORK_TIMEOUT_S = 60.0


@pytest.fixture
async def production(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Resources]:
    async with open_resources(scripted_models.applied_to(settings), pool_size=4) as opened:
        yield opened


@pytest.fixture
async def staging(production: Resources, base_settings: Settings, template: str) -> AsyncIterator[Resources]:
    """Another database, the same Redis, and a prefix that starts with that of production."""
    async with cloned(base_settings.stores.database_url.get_secret_value(), template=template) as url:
        changes = {
            "database_url": SecretStr(url),
            "queue_prefix": f"{production.settings.stores.queue_prefix}-staging",
            "s3_bucket_prefix": f"test-{uuid.uuid4().hex[:12]}",
        }
        async with open_resources(production.settings.changed(changes), pool_size=4) as opened:
            yield opened


async def upload(resources: Resources) -> Document:
    workspace = await create_workspace(resources.pool, resources.storage, resources.settings)
    return await accept(resources, workspace)


async def is_ready(resources: Resources, document: Document) -> bool:
    return (await reload(resources, document)).status is DocumentStatus.READY


async def snapshot(redis: RedisConnection, prefix: str) -> dict[bytes, bytes]:
    """Return every key of the environment with its content; arq's keys have the prefix in the job id."""
    keys = [key async for key in redis.scan_iter(match=f"*{prefix}:*", count=1000)]
    return {key: await command(redis, "DUMP", key) for key in keys}


async def test_environments_do_not_affect_each_other(production: Resources, staging: Resources) -> None:
    here, there = await upload(production), await upload(staging)
    waiting = await job_of(staging, there)
    before = await snapshot(staging.redis, staging.settings.stores.queue_prefix)
    assert len(before) == 2  # the queue, and the job's body
    async with working(production.settings):
        await until(lambda: is_ready(production, here), timeout_s=WORK_TIMEOUT_S)
        assert await reload_job(staging, waiting) == waiting
        assert await snapshot(staging.redis, staging.settings.stores.queue_prefix) == before
        # The keys of one environment are deleted, and those of the other are not.
        later = await upload(production)
        for key in await snapshot(production.redis, production.settings.stores.queue_prefix):
            await production.redis.delete(key)
        assert await snapshot(staging.redis, staging.settings.stores.queue_prefix) == before
        await until(lambda: is_ready(production, later), timeout_s=WORK_TIMEOUT_S)
    async with working(staging.settings):
        await until(lambda: is_ready(staging, there), timeout_s=WORK_TIMEOUT_S)
    finished = await reload_job(staging, waiting)
    assert (finished.status, finished.attempts) == (JobStatus.DONE, 1)
    for resources in (production, staging):
        async with resources.pool.acquire() as conn:
            assert {row["status"] for row in await conn.fetch("SELECT status FROM jobs")} == {JobStatus.DONE}
