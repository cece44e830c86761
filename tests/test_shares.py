"""Pools are shared by turns of workspaces and keys, are never exceeded, and lose nothing when a waiter gives up."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragsvc.errors.requests import Overloaded, RequestTimeout
from ragsvc.shares import SERVICE, Holder, Share, Shares, holder_now
from tests.support.polling import until

CAPACITY = 8
LARGEST = 6
HOLDERS = [Holder(UUID(int=workspace), UUID(int=key)) for workspace in (1, 2, 3) for key in (1, 2)]
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "release", "cancel", "grow"]), st.integers(0, 40), st.sampled_from(HOLDERS)),
    max_size=40,
)


def holder() -> Holder:
    return Holder(uuid4(), uuid4())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Callers:
    """Callers that hold a share or wait for one."""

    def __init__(self) -> None:
        self.pool = Shares("test", CAPACITY)
        self.waiting: dict[asyncio.Task[Share], tuple[Holder, int]] = {}
        self.shares: list[Share] = []

    async def step(self, action: str, number: int, by: Holder) -> None:
        if action == "take":
            amount = number % (CAPACITY + 3) + 1
            self.waiting[asyncio.create_task(self.pool.take(amount, holder=by))] = (by, min(amount, CAPACITY))
        elif action == "release" and self.shares:
            share = self.shares.pop(number % len(self.shares))
            share.release()
            share.release()
        elif action == "cancel" and self.waiting:
            task = list(self.waiting)[number % len(self.waiting)]
            task.cancel()
            await asyncio.wait({task})
            del self.waiting[task]
        elif action == "grow" and self.shares:
            self.shares[number % len(self.shares)].try_grow(1)
        await settle()
        for task in [task for task in self.waiting if task.done()]:
            self.shares.append(task.result())
            del self.waiting[task]

    def check(self) -> None:
        held = {one.workspace_id: self.pool.held_by(one.workspace_id) for one in HOLDERS}
        assert sum(held.values()) == sum(share.amount for share in self.shares) == CAPACITY - self.pool.free <= CAPACITY
        for workspace_id, amount in held.items():
            # A single share can be larger; otherwise it could never be granted.
            own = [share.amount for share in self.shares if share.holder.workspace_id == workspace_id]
            assert amount <= LARGEST or len(own) == 1
        assert self.pool.waiting == len(self.waiting)
        # Nobody waits who could be served without overtaking: some workspace is at its limit, or the pool is.
        for by, amount in self.waiting.values():
            is_at_limit = held[by.workspace_id] and held[by.workspace_id] + amount > LARGEST
            is_behind = len(self.waiting) > 1
            assert is_at_limit or amount > self.pool.free or is_behind


@given(STEPS)
def test_the_pool_is_never_exceeded_and_nothing_is_lost(steps: list[tuple[str, int, Holder]]) -> None:
    async def play() -> None:
        callers = Callers()
        for action, number, by in steps:
            await callers.step(action, number, by)
            callers.check()
        while callers.shares:
            await callers.step("release", 0, HOLDERS[0])
            callers.check()
        assert not callers.waiting
        assert callers.pool.free == CAPACITY

    asyncio.run(play())


async def test_one_workspace_cannot_hold_more_than_its_share() -> None:
    pool, greedy, other = Shares("test", CAPACITY), holder(), holder()
    held = [await pool.take(holder=greedy) for _ in range(LARGEST)]
    assert pool.try_take(holder=greedy) is None
    # Another key of the same workspace does not help.
    assert pool.try_take(holder=Holder(greedy.workspace_id, uuid4())) is None
    assert pool.try_take(CAPACITY - LARGEST, holder=other) is not None
    held[0].release()
    assert pool.try_take(holder=greedy) is not None


async def test_the_service_itself_can_take_the_whole_pool() -> None:
    pool = Shares("test", CAPACITY)
    assert holder_now.get() == SERVICE
    assert [pool.try_take() is not None for _ in range(CAPACITY + 1)] == [True] * CAPACITY + [False]


async def test_waiters_get_turns_by_workspace_and_then_by_key() -> None:
    pool = Shares("test", 1)
    busy, second_key, other = HOLDERS[0], HOLDERS[1], HOLDERS[2]
    turns: list[Holder] = []

    async def work(by: Holder) -> None:
        share = await pool.take(holder=by)
        turns.append(by)
        share.release()

    held = await pool.take(holder=busy)
    tasks = [asyncio.create_task(work(by)) for by in (busy, busy, busy, second_key, other, other)]
    await until_waiting(pool, 6)
    held.release()
    await asyncio.gather(*tasks)
    assert turns == [busy, other, second_key, other, busy, busy]


async def until_waiting(pool: Shares, count: int) -> None:
    await until(lambda: pool.waiting == count, what=f"{count} waiters")


async def test_waiters_of_a_workspace_at_its_limit_do_not_delay_others() -> None:
    pool, greedy, other = Shares("test", CAPACITY), holder(), holder()
    for _ in range(LARGEST):
        await pool.take(holder=greedy)
    waiting = asyncio.create_task(pool.take(holder=greedy))
    await until_waiting(pool, 1)
    at_once = pool.try_take(1, holder=other)
    assert at_once is not None
    share = await pool.take(1, holder=other)
    assert pool.free == 0
    share.release()
    at_once.release()
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert pool.waiting == 0


async def test_a_large_request_is_not_overtaken_for_ever() -> None:
    pool = Shares("test", CAPACITY)
    held = [await pool.take(3, holder=HOLDERS[0]), await pool.take(3, holder=HOLDERS[2])]
    large = asyncio.create_task(pool.take(4, holder=HOLDERS[4]))
    await until_waiting(pool, 1)
    # Two units are free, but it is the large request's turn.
    assert pool.try_take(1, holder=HOLDERS[2]) is None
    small = asyncio.create_task(pool.take(1, holder=HOLDERS[2]))
    await until_waiting(pool, 2)
    held[0].release()
    assert (await large).amount == 4
    assert (await small).amount == 1


async def test_waiting_is_bounded() -> None:
    pool = Shares("test", 1, max_wait_s=0.05)
    await pool.take(holder=HOLDERS[0])
    with pytest.raises(Overloaded):
        await pool.take(holder=HOLDERS[2])
    assert pool.waiting == 0


async def test_a_waiter_cancelled_while_it_is_granted_a_share_returns_it() -> None:
    pool = Shares("test", CAPACITY)
    held = await pool.take(CAPACITY)
    waiter = asyncio.create_task(pool.take(CAPACITY))
    await settle()
    held.release()
    waiter.cancel()
    await asyncio.wait({waiter})
    assert waiter.cancelled()
    assert (pool.free, pool.waiting) == (CAPACITY, 0)


async def test_at_the_limit_the_slowest_share_of_the_largest_holder_ends() -> None:
    pool, large, small, third = Shares("test", 100), holder(), holder(), holder()
    ended: list[str] = []

    def opened(name: str, by: Holder, amount: int) -> Share:
        share = pool.open(holder=by, end=lambda: ended.append(name))
        share.grow(amount)
        return share

    opened("fast", large, 40)
    opened("slow", large, 20)
    opened("other", small, 10)
    opened("third", third, 40)
    assert ended == ["slow"]
    # A workspace at its own limit makes room itself, and a share can be the slowest itself.
    greedy = pool.open(holder=large, end=lambda: ended.append("greedy"))
    greedy.grow(50)
    assert ended == ["slow", "fast"]
    with pytest.raises(RequestTimeout):
        greedy.grow(1)
    assert ended == ["slow", "fast", "greedy"]


async def test_a_share_that_has_ended_does_not_grow() -> None:
    pool = Shares("test", 10)
    share = pool.open(holder=HOLDERS[0], end=lambda: None)
    share.grow(5)
    pool.open(holder=HOLDERS[2], end=lambda: None).grow(6)
    assert share.is_ending
    with pytest.raises(RequestTimeout):
        share.grow(1)
    share.release()
    assert pool.free == 4


async def test_a_waiter_ends_the_slow_holder_once_its_turn_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragsvc.shares.POLL_S", 0.01)
    pool = Shares("test", 4)
    ended: list[str] = []
    slow = await pool.take(1, holder=HOLDERS[0], end=lambda: ended.append("slow"))
    fast = await pool.take(1, holder=HOLDERS[0], end=lambda: ended.append("fast"))
    # It has not had its turn yet.
    new = await pool.take(1, holder=HOLDERS[0], end=lambda: ended.append("new"), turn_s=1000)
    await pool.take(1, holder=HOLDERS[2])
    slow.arrived, fast.arrived, new.arrived = 1, 2, 0
    waiting = asyncio.create_task(pool.take(1, holder=HOLDERS[4]))
    await until(lambda: ended, what="the slow share to end")
    slow.release()
    await waiting
    # One waiter ends one share.
    assert ended == ["slow"]
