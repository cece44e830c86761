"""The buffer budget grants shares in order, is never exceeded, and loses no bytes when a waiter is cancelled."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from ragsvc.storage.budget import BufferBudget, Share

LIMIT = 10
# Reserve n bytes, release the n-th share, or cancel the n-th waiter.
STEPS = st.lists(st.tuples(st.sampled_from(["reserve", "release", "cancel"]), st.integers(1, LIMIT + 3)), max_size=40)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Callers:
    """Callers with a share and callers waiting for one, in the order of their requests."""

    def __init__(self) -> None:
        self.budget = BufferBudget(LIMIT)
        self.waiting: deque[tuple[int, asyncio.Task[Share]]] = deque()
        self.shares: list[Share] = []

    async def step(self, action: str, number: int) -> None:
        if action == "reserve":
            self.waiting.append((number, asyncio.create_task(self.budget.reserve(number))))
        elif action == "release" and self.shares:
            share = self.shares.pop(number % len(self.shares))
            share.release()
            share.release()
        elif action == "cancel" and self.waiting:
            _, task = self.waiting[number % len(self.waiting)]
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.waiting.remove((_, task))
        await settle()
        while self.waiting and self.waiting[0][1].done():
            self.shares.append(self.waiting.popleft()[1].result())

    def check(self) -> None:
        held = sum(share.size_bytes for share in self.shares)
        assert self.budget.free_bytes == LIMIT - held >= 0
        # In order: nobody overtook the first waiter, which waits only because too few bytes are free.
        assert not any(task.done() for _, task in self.waiting)
        assert not self.waiting or min(self.waiting[0][0], LIMIT) > self.budget.free_bytes
        assert self.budget.has_waiters == bool(self.waiting)


@given(STEPS)
def test_shares_are_granted_in_order_and_never_exceed_the_budget(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        callers = Callers()
        for action, number in steps:
            await callers.step(action, number)
            callers.check()
        while callers.shares:
            await callers.step("release", 0)
            callers.check()
        assert not callers.waiting
        assert callers.budget.free_bytes == LIMIT

    asyncio.run(play())


async def test_a_waiter_cancelled_while_it_is_granted_a_share_returns_it() -> None:
    budget = BufferBudget(LIMIT)
    held = await budget.reserve(LIMIT)
    waiter = asyncio.create_task(budget.reserve(LIMIT))
    await settle()
    held.release()
    waiter.cancel()
    await asyncio.wait({waiter})
    assert waiter.cancelled()
    assert (budget.free_bytes, budget.has_waiters) == (LIMIT, False)
