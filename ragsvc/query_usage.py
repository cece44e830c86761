"""What queries cost, gathered in memory and written beside them: what a killed process had not written is lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from ragsvc.db.model_usage import add_embedding_usage
from ragsvc.domain.usage import EmbeddingUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.db.connections.pool import Pool

WRITE_EVERY_S = 2.0
# The last one is at the process's end, which has little time.
WRITE_TIMEOUT_S = 5.0
# A bound for what is held while Postgres is away; then nobody's key can be looked up, so nobody asks anything for long.
MOST_WORKSPACES = 10_000

log = structlog.get_logger(__name__)


class QueryUsage:
    """Gathers what the queries of each workspace cost, and writes it every few seconds; no query waits for that."""

    def __init__(self, pool: Pool, *, model: str) -> None:
        self._pool = pool
        self._model = model
        self._gathered: dict[UUID, EmbeddingUsage] = {}
        self._stopping = asyncio.Event()

    def note(self, workspace_id: UUID, usage: EmbeddingUsage) -> None:
        """Have what a query of the workspace cost written soon."""
        if not usage.calls:
            return
        if len(self._gathered) >= MOST_WORKSPACES and workspace_id not in self._gathered:
            log.warning("query_usage_dropped", workspace_id=workspace_id, prompt_tokens=usage.prompt_tokens)
            return
        self._gathered[workspace_id] = self._gathered.get(workspace_id, EmbeddingUsage()) + usage

    async def write(self) -> None:
        """Write what is gathered. What fails is kept for the next time, and counts twice if it only seemed to fail."""
        gathered, self._gathered = self._gathered, {}
        if not gathered:
            return
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._pool.acquire() as conn:
                await add_embedding_usage(conn, gathered, model=self._model)
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop goes on and tries again
            log.warning("query_usage_not_written", workspaces=len(gathered), error=error)
            for workspace_id, usage in gathered.items():
                self.note(workspace_id, usage)

    async def write_until_stopped(self) -> None:
        """Write every few seconds, and a last time after `stop`."""
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_EVERY_S):
                    await self._stopping.wait()
            await self.write()

    def stop(self) -> None:
        """Let the writing end."""
        self._stopping.set()


@asynccontextmanager
async def open_query_usage(pool: Pool, *, model: str) -> AsyncIterator[QueryUsage]:
    """Gather and write; at the end, what is gathered by then is written."""
    usage = QueryUsage(pool, model=model)
    writing = asyncio.create_task(usage.write_until_stopped())
    try:
        yield usage
    finally:
        usage.stop()
        await writing
