"""Embedding usage is summed correctly under concurrency and removed with its workspace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ragsvc.db.model_usage import add_embedding_usage
from ragsvc.db.workspaces import delete_workspace
from ragsvc.domain.ids import new_id
from ragsvc.domain.usage import EmbeddingUsage
from tests.support.polling import until
from tests.support.servers.databases import owner_of
from tests.support.usage import embeddings_of
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Pool
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from ragsvc.storage.store import Storage

MODEL = "a-model"
ONE = EmbeddingUsage(calls=1, estimated_calls=1, prompt_tokens=5)
ADDERS = 6
ROUNDS = 20

# Makes the planner look up the workspaces one after the other, as it might if there were many.
FORCE_NESTED_LOOP = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off"

SELECT_WAITS = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO embedding_usage%'
"""


async def test_concurrent_writers_in_different_orders_lose_nothing_and_do_not_deadlock(
    settings: Settings, pool: Pool, storage: Storage
) -> None:
    ids = [(await create_workspace(pool, storage, settings)).id for _ in range(8)]

    async def add(number: int) -> None:
        usages = dict.fromkeys(ids if number % 2 else ids[::-1], ONE)
        for _ in range(ROUNDS):
            async with pool.acquire() as conn, conn.transaction():
                await conn.execute(FORCE_NESTED_LOOP)
                await add_embedding_usage(conn, usages, model=MODEL)

    await asyncio.gather(*map(add, range(ADDERS)))
    total = ADDERS * ROUNDS
    for workspace_id in ids:
        assert await embeddings_of(pool, workspace_id) == {MODEL: EmbeddingUsage(total, total, 5 * total)}


async def test_usage_of_a_deleted_workspace_is_ignored_and_that_of_others_is_counted(
    pool: Pool, workspace: Workspace
) -> None:
    async with pool.acquire() as conn:
        await add_embedding_usage(conn, {new_id(): ONE, workspace.id: ONE}, model=MODEL)
        assert await conn.fetchval("SELECT count(*) FROM embedding_usage") == 1
    assert await embeddings_of(pool, workspace.id) == {MODEL: ONE}


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_writer_waits_for_the_removal_of_a_workspace_and_then_skips_it(
    settings: Settings, pool: Pool, storage: Storage, *, is_first: bool
) -> None:
    removed, remaining = [(await create_workspace(pool, storage, settings)).id for _ in range(2)]

    async def add() -> None:
        async with pool.acquire() as conn:
            await add_embedding_usage(conn, {removed: ONE, remaining: ONE}, model=MODEL)

    if not is_first:
        await add()
    async with pool.acquire() as conn, conn.transaction():
        await delete_workspace(conn, removed)
        writer = asyncio.create_task(add())
        async with owner_of(settings) as owner:
            await until(lambda: owner.fetchval(SELECT_WAITS))
    await writer
    assert await embeddings_of(pool, removed) == {}
    assert await embeddings_of(pool, remaining) == {MODEL: ONE if is_first else ONE + ONE}
