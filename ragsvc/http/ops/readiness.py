"""Whether this process can serve, and what it has to do without."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from ragsvc.db.migrations import check_schema
from ragsvc.errors import StartupRefused, WorkError
from ragsvc.queue.connection import REDIS_TROUBLE

if TYPE_CHECKING:
    from ragsvc.resources import Resources

# A probe that hangs is an answer too.
PROBE_TIMEOUT_S = 2.0
# Anybody may ask, so the stores are asked at most this often.
FRESH_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What forbids serving, and what is away but not indispensable."""

    blockers: tuple[str, ...]
    degraded: tuple[str, ...]


class Readiness:
    """Looks at the stores, for everybody who asks within a second only once."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._lock = asyncio.Lock()
        self._report: Report | None = None
        self._reported_at = 0.0

    async def report(self) -> Report:
        """Return how the stores are."""
        async with self._lock:
            if self._report is None or time.monotonic() - self._reported_at > FRESH_S:
                self._report = await self._look()
                self._reported_at = time.monotonic()
            return self._report

    async def _look(self) -> Report:
        postgres, redis, storage = await asyncio.gather(
            self._look_at_postgres(), self._has_redis(), self._has_storage()
        )
        away = [name for name, there in (("redis", redis), ("s3", storage)) if not there]
        return Report(blockers=(postgres,) if postgres else (), degraded=tuple(away))

    async def _look_at_postgres(self) -> str | None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S), self._resources.pool.acquire() as conn:
                await check_schema(conn, self._resources.settings)
        except StartupRefused:
            return "schema"
        except Exception as error:  # noqa: BLE001 - whatever it is, Postgres does not answer as it has to
            log.warning("postgres_not_ready", error=error)
            return "postgres"
        return None

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
