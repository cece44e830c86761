"""Slots are limited and never lost, and they are granted in an order that serves requests before they give up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from ragsvc.errors.requests import Overloaded
from ragsvc.http.limits import slots as module
from ragsvc.http.limits.slots import Slot, Slots
from tests.support.polling import until

# Requests have different routes, except in tests of the limit per route.
ROUTES = [f"GET /{number}" for number in range(50)]


async def fill(slots: Slots, count: int) -> list[Slot]:
    return [await slots.acquire(route) for route in ROUTES[:count]]


async def begin_to_wait(slots: Slots, route: str) -> asyncio.Task[Slot]:
    before = slots.waiting
    task = asyncio.create_task(slots.acquire(route))
    await until(lambda: slots.waiting == before + 1)
    return task


async def test_a_waiting_request_gets_the_next_free_slot() -> None:
    slots = Slots(4, max_wait_s=60.0)
    held = await fill(slots, 4)
    waiting = await begin_to_wait(slots, "GET /late")
    held[0].release()
    held[0].release()
    (await waiting).release()
    assert (slots.used, slots.waiting) == (3, 0)


async def test_a_request_that_has_waited_too_long_is_refused() -> None:
    slots = Slots(2, max_wait_s=0.05)
    held = await fill(slots, 2)
    with pytest.raises(Overloaded):
        await slots.acquire("GET /late")
    for slot in held:
        slot.release()
    assert (slots.used, slots.waiting) == (0, 0)


async def test_a_request_is_refused_when_too_many_wait() -> None:
    slots = Slots(2, max_wait_s=60.0)
    await fill(slots, 2)
    waiting = [await begin_to_wait(slots, "GET /late") for _ in range(2 * module.WAITING_PER_SLOT)]
    with pytest.raises(Overloaded):
        await slots.acquire("GET /late")
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert (slots.used, slots.waiting) == (2, 0)


async def test_one_route_uses_at_most_half_of_the_slots() -> None:
    slots = Slots(4, max_wait_s=60.0)
    held = [await slots.acquire("POST /v1/search") for _ in range(2)]
    waiting = await begin_to_wait(slots, "POST /v1/search")
    other = await slots.acquire("GET /v1/documents")
    assert slots.used == 3
    other.release()
    assert not waiting.done()
    held[0].release()
    (await waiting).release()


@pytest.mark.parametrize(("late", "order"), [(1.0, [0, 1, 2]), (0.0, [2, 1, 0])])
async def test_waiting_requests_are_served_fifo_and_lifo_once_the_wait_is_long(
    monkeypatch: pytest.MonkeyPatch, late: float, order: list[int]
) -> None:
    monkeypatch.setattr(module, "LIFO_AFTER", late)
    slots, served = Slots(2, max_wait_s=60.0), []
    held = await fill(slots, 2)

    async def serve(number: int) -> None:
        slot = await slots.acquire(ROUTES[10 + number])
        served.append(number)
        slot.release()

    tasks = []
    for number in range(3):
        tasks.append(asyncio.create_task(serve(number)))
        await until(lambda: slots.waiting == len(tasks))
    held[0].release()
    await asyncio.gather(*tasks)
    assert served == order


async def test_a_slot_is_released_and_reacquired() -> None:
    slots = Slots(2, max_wait_s=60.0)
    slot, _other = await fill(slots, 2)
    slot.release()
    assert slots.used == 1
    await slot.reacquire()
    await slot.reacquire()
    assert slots.used == 2
    slot.release()
    assert slots.used == 1


Step = tuple[str, int]


async def end(task: asyncio.Task[Slot], *, is_cancelled: bool) -> None:
    """Release the slot, or cancel the wait for it."""
    if is_cancelled:
        task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and not task.exception():
        task.result().release()


@trying(max_examples=100, deadline=None)
@given(
    limit=st.integers(2, 5),
    steps=st.lists(st.tuples(st.sampled_from(["take", "release", "cancel"]), st.integers(0, 9)), max_size=40),
)
async def test_no_slot_is_lost_or_granted_twice(limit: int, steps: list[Step]) -> None:
    slots = Slots(limit, max_wait_s=60.0)
    tasks: list[asyncio.Task[Slot]] = []
    for action, number in steps:
        if action == "take":
            tasks.append(asyncio.create_task(slots.acquire(ROUTES[number % 3])))
        elif tasks:
            task = tasks.pop(number % len(tasks))
            await end(task, is_cancelled=action == "cancel" or not task.done())
        if number % 2:
            await asyncio.sleep(0)
        assert slots.used <= limit
        assert all(count <= max(1, limit // 2) for count in slots._used_per_route.values())
    for task in tasks:
        await end(task, is_cancelled=True)
    assert (slots.used, slots.waiting) == (0, 0)
