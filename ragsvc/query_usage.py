"""Embedding usage of queries, buffered in memory and written in the background; a killed process loses its buffer."""

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
# Short, because the last write happens during shutdown.
WRITE_TIMEOUT_S = 5.0
# Bounds the memory used while Postgres is unavailable. Authentication fails then too, so few queries arrive.
MAX_WORKSPACES = 10_000

log = structlog.get_logger(__name__)


class QueryUsage:
    """Buffers the embedding usage of each workspace's queries and writes it periodically; queries never wait for it."""

    def __init__(self, pool: Pool, *, model: str) -> None:
        self._pool = pool
        self._model = model
        self._buffer: dict[UUID, EmbeddingUsage] = {}
        self._stopping = asyncio.Event()

    def note(self, workspace_id: UUID, usage: EmbeddingUsage) -> None:
        """Add the usage of a query to the buffer."""
        if not usage.calls:
            return
        if len(self._buffer) >= MAX_WORKSPACES and workspace_id not in self._buffer:
            log.warning("query_usage_dropped", workspace_id=workspace_id, prompt_tokens=usage.prompt_tokens)
            return
        self._buffer[workspace_id] = self._buffer.get(workspace_id, EmbeddingUsage()) + usage

    async def write(self) -> None:
        """Write the buffer.

        After an error, the usage is buffered again. If the write succeeded but its acknowledgement was lost, the usage
        is counted twice.
        """
        buffered, self._buffer = self._buffer, {}
        if not buffered:
            return
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._pool.acquire() as conn:
                await add_embedding_usage(conn, buffered, model=self._model)
        except Exception as error:  # noqa: BLE001 - the loop must continue and retry
            log.warning("query_usage_not_written", workspaces=len(buffered), error=error)
            for workspace_id, usage in buffered.items():
                self.note(workspace_id, usage)

    async def write_until_stopped(self) -> None:
        """Write every few seconds, and once more after `stop`."""
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_EVERY_S):
                    await self._stopping.wait()
            await self.write()

    def stop(self) -> None:
        """End `write_until_stopped` after a last write."""
        self._stopping.set()


@asynccontextmanager
async def open_query_usage(pool: Pool, *, model: str) -> AsyncIterator[QueryUsage]:
    """Buffer and write usage in the background; on exit, write the rest of the buffer."""
    usage = QueryUsage(pool, model=model)
    writer = asyncio.create_task(usage.write_until_stopped())
    try:
        yield usage
    finally:
        usage.stop()
        await writer
