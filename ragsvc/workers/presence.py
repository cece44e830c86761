"""The presence of a worker: it reports itself in Postgres, so that operators see it while it has nothing to do."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from ragsvc.db import workers
from ragsvc.domain.ids import new_id
from ragsvc.tasks import in_background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.resources import Resources

REPORT_S = workers.ALIVE_S / 3
STOP_TIMEOUT_S = 2.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def present(ctx: dict[str, Any], *, concurrency: int) -> AsyncIterator[None]:
    """Report the worker while the body runs; `ctx["looked_at"]` is the monotonic time of its last look for jobs."""
    worker_id = new_id()
    async with in_background(_report(ctx, worker_id, concurrency)):
        yield
    resources: Resources = ctx["resources"]
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S), resources.pool.acquire() as conn:
            await workers.delete_worker(conn, worker_id)
    except Exception as error:  # noqa: BLE001 - without a sign of life, it counts as gone soon
        log.warning("worker_not_signed_off", error=error)


async def _report(ctx: dict[str, Any], worker_id: UUID, concurrency: int) -> None:
    resources: Resources = ctx["resources"]
    while True:
        look_age_s = time.monotonic() - ctx.get("looked_at", time.monotonic())
        try:
            async with resources.pool.acquire() as conn:
                await workers.upsert_worker(
                    conn,
                    worker_id,
                    queue=ctx["queue"],
                    name=ctx["owner"],
                    version=version("ragsvc"),
                    concurrency=concurrency,
                    look_age_s=look_age_s,
                )
        except Exception as error:  # noqa: BLE001 - the next report may succeed
            log.warning("worker_not_reported", error=error)
        await asyncio.sleep(REPORT_S)
