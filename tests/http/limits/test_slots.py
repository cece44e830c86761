"""Places for requests: never more than there are, none lost, and in an order that serves those who still wait."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from ragsvc.errors import Overloaded
from ragsvc.http.limits import slots as module
from ragsvc.http.limits.slots import BodyRoom, Place, Places
from tests.support.polling import until

# Each request is of a route of its own, unless a test is about routes.
ROUTES = [f"GET /{number}" for number in range(50)]


async def fill(places: Places, count: int) -> list[Place]:
    return [await places.take(route) for route in ROUTES[:count]]


async def begin_to_wait(places: Places, route: str) -> asyncio.Task[Place]:
    before = places.waiting
    task = asyncio.create_task(places.take(route))
    await until(lambda: places.waiting == before + 1)
    return task


async def test_a_request_waits_for_a_place_and_gets_it() -> None:
    places = Places(4, most_wait_s=60.0)
    held = await fill(places, 4)
    waiting = await begin_to_wait(places, "GET /late")
    held[0].release()
    held[0].release()
    (await waiting).release()
    assert (places.held, places.waiting) == (3, 0)


async def test_nobody_waits_longer_than_an_answer_is_wanted() -> None:
    places = Places(2, most_wait_s=0.05)
    held = await fill(places, 2)
    with pytest.raises(Overloaded):
        await places.take("GET /late")
    for place in held:
        place.release()
    assert (places.held, places.waiting) == (0, 0)


async def test_so_many_wait_and_no_more() -> None:
    places = Places(2, most_wait_s=60.0)
    await fill(places, 2)
    waiting = [await begin_to_wait(places, "GET /late") for _ in range(2 * module.WAITING_PER_PLACE)]
    with pytest.raises(Overloaded):
        await places.take("GET /late")
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert (places.held, places.waiting) == (2, 0)


async def test_one_route_leaves_half_of_the_places_to_others() -> None:
    places = Places(4, most_wait_s=60.0)
    held = [await places.take("POST /v1/search") for _ in range(2)]
    waiting = await begin_to_wait(places, "POST /v1/search")
    other = await places.take("GET /v1/documents")
    assert places.held == 3
    other.release()
    assert not waiting.done()
    held[0].release()
    (await waiting).release()


@pytest.mark.parametrize(("late", "order"), [(1.0, [0, 1, 2]), (0.0, [2, 1, 0])])
async def test_those_who_came_first_go_first_until_the_wait_is_long(
    monkeypatch: pytest.MonkeyPatch, late: float, order: list[int]
) -> None:
    monkeypatch.setattr(module, "LATE", late)
    places, served = Places(2, most_wait_s=60.0), []
    held = await fill(places, 2)

    async def serve(number: int) -> None:
        place = await places.take(ROUTES[10 + number])
        served.append(number)
        place.release()

    tasks = []
    for number in range(3):
        tasks.append(asyncio.create_task(serve(number)))
        await until(lambda: places.waiting == len(tasks))
    held[0].release()
    await asyncio.gather(*tasks)
    assert served == order


async def test_a_place_is_given_back_and_taken_again() -> None:
    places = Places(2, most_wait_s=60.0)
    place, _other = await fill(places, 2)
    place.release()
    assert places.held == 1
    await place.retake()
    await place.retake()
    assert places.held == 2
    place.release()
    assert places.held == 1


Step = tuple[str, int]


async def end(task: asyncio.Task[Place], *, is_cancelled: bool) -> None:
    """Give a place back, or give up on it."""
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
async def test_no_place_is_lost_and_none_is_given_twice(limit: int, steps: list[Step]) -> None:
    places = Places(limit, most_wait_s=60.0)
    tasks: list[asyncio.Task[Place]] = []
    for action, number in steps:
        if action == "take":
            tasks.append(asyncio.create_task(places.take(ROUTES[number % 3])))
        elif tasks:
            task = tasks.pop(number % len(tasks))
            await end(task, is_cancelled=action == "cancel" or not task.done())
        if number % 2:
            await asyncio.sleep(0)
        assert places.held <= limit
        assert all(count <= max(1, limit // 2) for count in places._per_route.values())
    for task in tasks:
        await end(task, is_cancelled=True)
    assert (places.held, places.waiting) == (0, 0)


def test_bodies_have_so_much_room_and_no_more() -> None:
    room = BodyRoom(100)
    with room.reserve(60):
        with pytest.raises(Overloaded), room.reserve(41):
            pass
        with room.reserve(40):
            pass
    with room.reserve(100):
        pass
