"""The memory of parts on their way is given out in turn, never twice, and comes back whatever becomes of who waited."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from ragsvc.storage.budget import BufferBudget, Share

LIMIT = 10
# Ask for so many bytes; give the n-th share back; stop the n-th who waits.
STEPS = st.lists(st.tuples(st.sampled_from(["ask", "return", "stop"]), st.integers(1, LIMIT + 3)), max_size=40)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Crowd:
    """Those who hold and who wait, in the order in which they asked."""

    def __init__(self) -> None:
        self.budget = BufferBudget(LIMIT)
        self.waiting: deque[tuple[int, asyncio.Task[Share]]] = deque()
        self.shares: list[Share] = []

    async def step(self, what: str, number: int) -> None:
        if what == "ask":
            self.waiting.append((number, asyncio.create_task(self.budget.reserve(number))))
        elif what == "return" and self.shares:
            share = self.shares.pop(number % len(self.shares))
            share.release()
            share.release()
        elif what == "stop" and self.waiting:
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
        # In turn: nobody was let past the first who waits, and that one waits for no reason but a lack of room.
        assert not any(task.done() for _, task in self.waiting)
        assert not self.waiting or min(self.waiting[0][0], LIMIT) > self.budget.free_bytes
        assert self.budget.has_waiters == bool(self.waiting)


@given(STEPS)
def test_the_budget_is_given_out_in_turn_and_never_twice(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        crowd = Crowd()
        for what, number in steps:
            await crowd.step(what, number)
            crowd.check()
        while crowd.shares:
            await crowd.step("return", 0)
            crowd.check()
        assert not crowd.waiting
        assert crowd.budget.free_bytes == LIMIT

    asyncio.run(play())


async def test_one_who_is_stopped_in_the_moment_of_being_served_gives_it_back() -> None:
    budget = BufferBudget(LIMIT)
    held = await budget.reserve(LIMIT)
    asked = asyncio.create_task(budget.reserve(LIMIT))
    await settle()
    held.release()
    asked.cancel()
    await asyncio.wait({asked})
    assert asked.cancelled()
    assert (budget.free_bytes, budget.has_waiters) == (LIMIT, False)
