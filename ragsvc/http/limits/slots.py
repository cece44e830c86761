"""How much a process takes on at once: places for requests, and room for the bodies that they bring."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragsvc.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Iterator

# Once the oldest has waited for this part of the longest wait, those that came last go first.
LATE = 0.5
# So many may wait for each place that there is; all streams that there may be can be begun at once.
WAITING_PER_SLOT = 8


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request that waits for a place; the future is set when it has one."""

    route: str
    granted: asyncio.Future[None]
    since: float = field(default_factory=time.monotonic)


class Slots:
    """The requests that a process works on at once, whoever sends them.

    One route has half of the places at most, so that a slow provider behind one kind of request leaves room for others.
    Requests that find no place wait for one in the order of their coming; when the wait grows long, in the opposite
    order ("adaptive LIFO"): so those that are answered are answered soon, and the others are refused.

    Source: Maurer, "Fail at Scale", ACM Queue 13 (8), 2015.
    """

    def __init__(self, limit: int, *, most_wait_s: float) -> None:
        self._limit = limit
        self._most_wait_s = most_wait_s
        self._limit_per_route = max(1, limit // 2)
        self._most_waiting = limit * WAITING_PER_SLOT
        self._held = 0
        self._per_route: Counter[str] = Counter()
        self._waiting: dict[_Waiting, None] = {}

    @property
    def held(self) -> int:
        """How many places are taken."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many requests wait for one."""
        return len(self._waiting)

    async def take(self, route: str) -> Slot:
        """Return a place, once there is one.

        Raises:
            Overloaded: none became free in time, or too many wait already.
        """
        if self._is_free_for(route):
            self._occupy(route)
        elif len(self._waiting) >= self._most_waiting:
            raise Overloaded
        else:
            await self._wait(route)
        return Slot(self, route)

    async def _wait(self, route: str) -> None:
        waiting = _Waiting(route, asyncio.get_running_loop().create_future())
        self._waiting[waiting] = None
        try:
            async with asyncio.timeout(self._most_wait_s):
                await waiting.granted
        except BaseException as error:
            # Granted and given up at once: it goes to the next one.
            if waiting.granted.done() and not waiting.granted.cancelled():
                self.give_back(route)
            if isinstance(error, TimeoutError):
                raise Overloaded from None
            raise
        finally:
            self._waiting.pop(waiting, None)

    def give_back(self, route: str) -> None:
        """Free a place of this route and give it to one that waits."""
        self._held -= 1
        self._per_route[route] -= 1
        if not self._per_route[route]:
            del self._per_route[route]
        if (following := self._choose()) is not None:
            del self._waiting[following]
            self._occupy(following.route)
            following.granted.set_result(None)

    def _choose(self) -> _Waiting | None:
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return None
        is_late = time.monotonic() - oldest.since > LATE * self._most_wait_s
        order = reversed(self._waiting) if is_late else iter(self._waiting)
        return next((one for one in order if self._is_free_for(one.route) and not one.granted.done()), None)

    def _is_free_for(self, route: str) -> bool:
        return self._held < self._limit and self._per_route[route] < self._limit_per_route

    def _occupy(self, route: str) -> None:
        self._held += 1
        self._per_route[route] += 1


class Slot:
    """One request's place, until it is given back."""

    def __init__(self, slots: Slots, route: str) -> None:
        self._slots = slots
        self._route = route
        self._is_held = True

    def release(self) -> None:
        """Give it back; again is fine."""
        if self._is_held:
            self._is_held = False
            self._slots.give_back(self._route)

    async def retake(self) -> None:
        """Take a place again after it was given back; raises like `Places.take`."""
        if not self._is_held:
            await self._slots.take(self._route)
            self._is_held = True


class BodyBudget:
    """The memory that bodies may take which are read whole."""

    def __init__(self, size_bytes: int) -> None:
        self._free_bytes = size_bytes

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        """Hold so much of it.

        Raises:
            Overloaded: there is not so much left.
        """
        if size_bytes > self._free_bytes:
            raise Overloaded
        self._free_bytes -= size_bytes
        try:
            yield
        finally:
            self._free_bytes += size_bytes
