"""Connections to Postgres are shared by workspace: one that takes many does not starve the others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from ragsvc.db.connections.pool import open_pool
from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import Overloaded
from ragsvc.shares import SERVICE, Holder, holder_now
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.db.connections.pool import Pool
    from ragsvc.settings.settings import Settings

SIZE = 4
LIMIT = 3
GREEDY, OTHER = (Holder(new_id(), new_id()) for _ in range(2))


@pytest.fixture(autouse=True)
def holder() -> Iterator[None]:
    token = holder_now.set(SERVICE)
    yield
    holder_now.reset(token)


async def hold(pool: Pool, holder: Holder, stack: AsyncExitStack, *, count: int) -> None:
    """Let a holder acquire connections."""
    holder_now.set(holder)
    for _ in range(count):
        await stack.enter_async_context(pool.acquire())


async def select_one(pool: Pool, holder: Holder) -> int:
    """Make a statement for a holder."""
    holder_now.set(holder)
    async with pool.acquire() as conn:
        one: int = await conn.fetchval("SELECT 1")
    return one


async def test_a_workspace_that_takes_all_it_can_get_leaves_connections_for_others(settings: Settings) -> None:
    async with open_pool(settings, size=SIZE) as pool:
        async with AsyncExitStack() as stack:
            await hold(pool, GREEDY, stack, count=LIMIT)
            waiting = [asyncio.create_task(select_one(pool.scoped_to(new_id()), GREEDY)) for _ in range(20)]
            await until(lambda: pool._shares.waiting == len(waiting))
            assert await asyncio.wait_for(select_one(pool, OTHER), 20) == 1
            assert await asyncio.wait_for(select_one(pool, SERVICE), 20) == 1
            assert not any(task.done() for task in waiting)
        assert await asyncio.gather(*waiting) == [1] * len(waiting)


async def test_waiting_for_a_connection_is_bounded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragsvc.db.connections.pool.MAX_WAIT_S", 0.1)
    async with open_pool(settings, size=SIZE) as pool, AsyncExitStack() as stack:
        await hold(pool, GREEDY, stack, count=LIMIT)
        with pytest.raises(Overloaded):
            await select_one(pool, GREEDY)
