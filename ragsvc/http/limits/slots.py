"""Limits how many requests one process works on at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from ragsvc.errors.requests import Overloaded

# Once the oldest request has waited for this fraction of the maximum wait, the newest are served first.
LIFO_AFTER = 0.5
# Queue length per slot. A queue this long lets every permitted stream start at the same time.
WAITING_PER_SLOT = 8


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request that waits for a slot; the future is resolved once the request has one."""

    route: str
    granted: asyncio.Future[None]
    since: float = field(default_factory=time.monotonic)


class Slots:
    """Limits the number of requests that a process works on at once, across all clients.

    One route gets at most half of the slots, so that a slow provider behind one kind of request leaves capacity for
    the others. Requests are served in FIFO order, but in LIFO order once the wait grows long ("adaptive LIFO"): under
    overload, some requests are then served quickly and the rest are refused, instead of all being served late.

    Source: Maurer, "Fail at Scale", ACM Queue 13 (8), 2015.
    """

    def __init__(self, limit: int, *, max_wait_s: float) -> None:
        self._limit = limit
        self._max_wait_s = max_wait_s
        self._limit_per_route = max(1, limit // 2)
        self._max_waiting = limit * WAITING_PER_SLOT
        self._used = 0
        self._used_per_route: Counter[str] = Counter()
        self._waiting: dict[_Waiter, None] = {}

    @property
    def used(self) -> int:
        """Number of slots in use."""
        return self._used

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a slot."""
        return len(self._waiting)

    async def acquire(self, route: str) -> Slot:
        """Wait for a slot and return it.

        Raises:
            Overloaded: no slot became free in time, or too many requests already wait.
        """
        if self._is_free_for(route):
            self._occupy(route)
        elif len(self._waiting) >= self._max_waiting:
            raise Overloaded
        else:
            await self._wait(route)
        return Slot(self, route)

    async def _wait(self, route: str) -> None:
        waiter = _Waiter(route, asyncio.get_running_loop().create_future())
        self._waiting[waiter] = None
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiter.granted
        except BaseException as error:
            # The slot was granted just as the request gave up: pass it on to the next one.
            if waiter.granted.done() and not waiter.granted.cancelled():
                self.release(route)
            if isinstance(error, TimeoutError):
                raise Overloaded from None
            raise
        finally:
            self._waiting.pop(waiter, None)

    def release(self, route: str) -> None:
        """Free a slot of this route, and grant it to a waiting request."""
        self._used -= 1
        self._used_per_route[route] -= 1
        if not self._used_per_route[route]:
            del self._used_per_route[route]
        if (following := self._choose()) is not None:
            del self._waiting[following]
            self._occupy(following.route)
            following.granted.set_result(None)

    def _choose(self) -> _Waiter | None:
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return None
        is_late = time.monotonic() - oldest.since > LIFO_AFTER * self._max_wait_s
        order = reversed(self._waiting) if is_late else iter(self._waiting)
        return next((one for one in order if self._is_free_for(one.route) and not one.granted.done()), None)

    def _is_free_for(self, route: str) -> bool:
        return self._used < self._limit and self._used_per_route[route] < self._limit_per_route

    def _occupy(self, route: str) -> None:
        self._used += 1
        self._used_per_route[route] += 1


class Slot:
    """One request's slot, from its acquisition to its release."""

    def __init__(self, slots: Slots, route: str) -> None:
        self._slots = slots
        self._route = route
        self._is_acquired = True

    def release(self) -> None:
        """Free the slot; does nothing if it is already free."""
        if self._is_acquired:
            self._is_acquired = False
            self._slots.release(self._route)

    async def reacquire(self) -> None:
        """Wait for a slot again after `release`; raises like `Slots.acquire`."""
        if not self._is_acquired:
            await self._slots.acquire(self._route)
            self._is_acquired = True
