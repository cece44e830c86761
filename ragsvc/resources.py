"""The connections and clients of a process, and the function that opens them."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ragsvc.db.connections.pool import open_pool
from ragsvc.db.migrations import check_schema
from ragsvc.llm.client import open_llm
from ragsvc.query_usage import open_query_usage
from ragsvc.queue.connection import open_redis
from ragsvc.queue.notifier import Notifier
from ragsvc.queue.provider_rate import RedisProviderRate
from ragsvc.storage.budget import BufferBudget
from ragsvc.storage.store import open_storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.db.connections.pool import Pool
    from ragsvc.domain.documents import EmbeddingSpace
    from ragsvc.llm.client import LlmClient
    from ragsvc.query_usage import QueryUsage
    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings
    from ragsvc.storage.store import Storage


@dataclass(frozen=True, slots=True)
class Resources:
    """The connections and clients of a process, which are passed to every use-case."""

    settings: Settings
    pool: Pool
    redis: RedisConnection
    notifier: Notifier
    storage: Storage
    buffers: BufferBudget
    llm: LlmClient
    space: EmbeddingSpace
    query_usage: QueryUsage

    def scoped_to(self, workspace_id: UUID) -> Resources:
        """Return the same resources with a pool whose statements can see only this workspace's rows."""
        return replace(self, pool=self.pool.scoped_to(workspace_id))


@asynccontextmanager
async def open_resources(settings: Settings, *, pool_size: int) -> AsyncIterator[Resources]:
    """Open all resources, and close them in reverse order.

    Postgres must be available with the right schema; Redis, the store and the models are connected to on first use.

    Raises:
        StartupRefused: Postgres is unavailable, too old, or not migrated.
    """
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings, size=pool_size))
        async with pool.acquire() as conn:
            space = await check_schema(conn, settings)
        query_usage = await stack.enter_async_context(open_query_usage(pool, model=settings.llm.embedding_model))
        redis = open_redis(settings)
        stack.push_async_callback(redis.aclose)
        storage = await stack.enter_async_context(open_storage(settings))
        llm = await stack.enter_async_context(open_llm(settings, RedisProviderRate(redis, settings)))
        yield Resources(
            settings=settings,
            pool=pool,
            redis=redis,
            notifier=Notifier(redis, settings),
            storage=storage,
            buffers=BufferBudget(settings.api.upload_buffer_bytes),
            llm=llm,
            space=space,
            query_usage=query_usage,
        )
