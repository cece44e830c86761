"""The lane for deliveries of a deletion worker, so that slow receivers never take the slots of deletions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from ragsvc.db import document_jobs
from ragsvc.tasks import cancel_and_wait
from ragsvc.webhooks.delivery import deliver
from ragsvc.workers.runner import run_job

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.resources import Resources

# Deliveries at once. Every webhook has at most one in flight, and a workspace has at most 20 webhooks, so one workspace
# never holds all of them.
SLOTS = 32
# Longest time until a new event is noticed.
IDLE_S = 1.0
# Shortest time between two looks, so that many fast deliveries do not make as many looks.
LOOK_INTERVAL_S = 0.05

log = structlog.get_logger(__name__)


class DeliveryLane:
    """Looks for due deliveries in Postgres and makes them; `ctx` is the worker's context."""

    def __init__(self, ctx: dict[str, Any]) -> None:
        self._ctx = ctx
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until cancelled; the deliveries that are still running then are handed back."""
        try:
            while True:
                for job_id in await self._find_due():
                    self._running.add(asyncio.create_task(run_job(self._ctx, str(job_id), deliver, delivers=True)))
                await asyncio.sleep(LOOK_INTERVAL_S)
                await self._wait()
        finally:
            await cancel_and_wait(*self._running)

    async def _find_due(self) -> list[UUID]:
        resources: Resources = self._ctx["resources"]
        free = SLOTS - len(self._running)
        if free <= 0 or self._ctx["stopping"].is_set():
            return []
        try:
            async with resources.pool.acquire() as conn:
                return await document_jobs.select_next_deliveries(conn, limit=free)
        except Exception as error:  # noqa: BLE001 - the next look may succeed
            log.warning("deliveries_not_found", error=error)
            return []

    async def _wait(self) -> None:
        """Wait until a delivery has ended, but at most IDLE_S."""
        if not self._running:
            await asyncio.sleep(IDLE_S)
            return
        ended, self._running = await asyncio.wait(self._running, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.warning("delivery_failed", error=error)
