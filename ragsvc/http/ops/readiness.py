"""Checks whether this process can serve, and which stores are unavailable."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from ragsvc.db.migrations import check_schema
from ragsvc.db.workers import select_worker_counts
from ragsvc.errors.base import StartupRefused
from ragsvc.errors.work import WorkError
from ragsvc.preflight import describe_stale_documents
from ragsvc.queue.connection import REDIS_TROUBLE

if TYPE_CHECKING:
    from ragsvc.resources import Resources

# A store that takes longer counts as unavailable.
PROBE_TIMEOUT_S = 2.0
# /readyz is public, so results are cached for this long.
FRESH_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """Failures that prevent the process from serving, faults with which it can still serve, and sentences on these."""

    blockers: tuple[str, ...]
    degraded: tuple[str, ...]
    notices: tuple[str, ...] = ()


class Readiness:
    """Checks the stores, and caches the result for a second."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._lock = asyncio.Lock()
        self._report: Report | None = None
        self._reported_at = 0.0

    async def report(self) -> Report:
        """Return the state of the stores, at most `FRESH_S` old."""
        async with self._lock:
            if self._report is None or time.monotonic() - self._reported_at > FRESH_S:
                self._report = await self._check()
                self._reported_at = time.monotonic()
            return self._report

    async def _check(self) -> Report:
        postgres, redis, storage = await asyncio.gather(self._check_postgres(), self._has_redis(), self._has_storage())
        unavailable = [name for name, is_up in (("redis", redis), ("s3", storage)) if not is_up]
        missing = [] if postgres.blockers else await self._find_missing_workers()
        return replace(postgres, degraded=(*unavailable, *missing, *postgres.degraded))

    async def _find_missing_workers(self) -> list[str]:
        """Return `ingestion_workers` or `deletion_workers` for each queue that nobody works on."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S), self._resources.pool.acquire() as conn:
                counts = await select_worker_counts(conn)
        except Exception as error:  # noqa: BLE001 - Postgres itself is checked above
            log.warning("workers_not_counted", error=error)
            return []
        return [f"{count.queue}_workers" for count in counts if not count.alive]

    async def _check_postgres(self) -> Report:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S), self._resources.pool.acquire() as conn:
                space = await check_schema(conn, self._resources.settings)
                notice = await describe_stale_documents(conn, space)
        except StartupRefused:
            return Report(("schema",), ())
        except Exception as error:  # noqa: BLE001 - any failure means that Postgres is unusable
            log.warning("postgres_not_ready", error=error)
            return Report(("postgres",), ())
        return Report((), ("embedding_space",), (notice,)) if notice else Report((), ())

    async def _has_redis(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._resources.redis.ping()
        except REDIS_TROUBLE:
            return False
        return True

    async def _has_storage(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._resources.storage.ping()
        except (WorkError, TimeoutError):
            return False
        return True


READINESS = web.AppKey("readiness", Readiness)
