"""Fair shares of what a process has little of: memory, connections and slots that cannot be taken back.

Whoever waits gets its turn by workspace first and by key second, so a workspace with a thousand waiting requests delays
another by one turn. One workspace holds at most LARGEST_SHARE of a pool, so a newcomer always finds something free.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from ragsvc.errors.requests import Overloaded, RequestTimeout
from ragsvc.telemetry.metrics import SHARE_WAIT, SHARES_ENDED, SHARES_REFUSED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

LARGEST_SHARE = 0.75
# How often a waiter checks whether a slow holder has to end.
POLL_S = 1.0
# A holder's rate is measured over at least this time, so that one which has just begun is not taken for a slow one.
MIN_RATED_S = 1.0
TOO_SLOW = "The body arrived too slowly while the server was short of memory; send it again."


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a share or waits for one."""

    workspace_id: UUID
    key_id: UUID


# The service itself and the operator, who can take a whole pool.
SERVICE = Holder(UUID(int=0), UUID(int=0))
# Tasks inherit it, so it also names the holder for whom a request's tasks work.
holder_now: ContextVar[Holder] = ContextVar("holder_now", default=SERVICE)


@dataclass(eq=False, slots=True)
class Share:
    """An amount that a holder has of a pool, until it is released.

    `end` is called, at most once, if the pool needs the amount back because the holder is too slow, but not before
    `turn_s`; a share without it cannot be taken back. `arrived` is what the holder has used of the amount so far, and
    determines its rate.
    """

    pool: Shares
    holder: Holder
    amount: int
    end: Callable[[], None] | None = None
    turn_s: float = 0.0
    arrived: int = 0
    is_ending: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """The amount that has arrived per second."""
        return self.arrived / max(MIN_RATED_S, time.monotonic() - self.since)

    @property
    def can_end(self) -> bool:
        """Whether the pool can take the share back."""
        has_had_turn = time.monotonic() - self.since >= self.turn_s
        return self.amount > 0 and self.end is not None and not self.is_ending and has_had_turn

    def grow(self, amount: int) -> None:
        """Add an amount that has arrived; at the limit, the slowest share of the largest holder ends.

        Raises:
            RequestTimeout: this share is the slowest.
            Overloaded: the limit is reached, and no share can be taken back.
        """
        self.pool.grow(self, amount)

    def try_grow(self, amount: int) -> bool:
        """Add an amount and return whether the limits allow it."""
        return self.pool.try_grow(self, amount)

    def release(self) -> None:
        """Return the share to its pool; idempotent."""
        self.pool.release(self)


@dataclass(eq=False, slots=True)
class _Waiter:
    holder: Holder
    amount: int
    end: Callable[[], None] | None
    turn_s: float
    granted: asyncio.Future[Share] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Shares:
    """A pool of `capacity` units, shared fairly by workspaces and their keys."""

    def __init__(self, name: str, capacity: int, *, max_wait_s: float = 30.0) -> None:
        self.capacity = capacity
        self._name = name
        self._max_wait_s = max_wait_s
        self._used = 0
        self._shares: dict[UUID, dict[Share, None]] = {}
        self._held: Counter[UUID] = Counter()
        # By workspace, then by key; the first of each has the next turn.
        self._waiting: OrderedDict[UUID, OrderedDict[UUID, deque[_Waiter]]] = OrderedDict()

    @property
    def free(self) -> int:
        """The amount that nobody holds."""
        return self.capacity - self._used

    @property
    def waiting(self) -> int:
        """The number of callers that wait."""
        return sum(len(queue) for keys in self._waiting.values() for queue in keys.values())

    def held_by(self, workspace_id: UUID) -> int:
        """Return the amount that a workspace holds."""
        return self._held[workspace_id]

    def open(self, *, holder: Holder | None = None, end: Callable[[], None] | None = None) -> Share:
        """Return an empty share, which grows as its holder needs more."""
        return self._add(Share(self, holder or holder_now.get(), 0, end))

    def try_take(self, amount: int = 1, *, holder: Holder | None = None) -> Share | None:
        """Return a share at once; None if the limits do not allow it, or if somebody else's turn comes first."""
        holder, amount = holder or holder_now.get(), min(amount, self.capacity)
        if holder.workspace_id in self._waiting or self._has_turn_pending() or not self._fits(holder, amount):
            return None
        return self._add(Share(self, holder, amount))

    async def take(
        self,
        amount: int = 1,
        *,
        holder: Holder | None = None,
        end: Callable[[], None] | None = None,
        turn_s: float = 0.0,
    ) -> Share:
        """Wait for a turn and return a share; an amount above the capacity is reduced to it.

        While it waits, slow shares of the largest holder end, once they have had their own turn.

        Raises:
            Overloaded: the turn did not come within the longest wait.
        """
        waiter = _Waiter(holder or holder_now.get(), min(amount, self.capacity), end, turn_s)
        self._enqueue(waiter)
        self._grant()
        if not waiter.granted.done():
            with SHARE_WAIT.labels(self._name).time():
                await self._wait(waiter)
        return waiter.granted.result()

    @asynccontextmanager
    async def hold(self, amount: int = 1) -> AsyncIterator[None]:
        """Hold a share while the context is open; waits and raises like `take`."""
        share = await self.take(amount)
        try:
            yield
        finally:
            share.release()

    def try_grow(self, share: Share, amount: int) -> bool:
        """Add an amount that has arrived to a share, and return whether the limits allow it."""
        if share.is_ending or not self._fits(share.holder, amount):
            return False
        self._used += amount
        self._held[share.holder.workspace_id] += amount
        share.amount += amount
        share.arrived += amount
        return True

    def grow(self, share: Share, amount: int) -> None:
        """Add an amount to a share; raises like `Share.grow`."""
        while not self.try_grow(share, amount):
            if share.is_ending:
                raise RequestTimeout(TOO_SLOW)
            slowest = self._slowest_for(share.holder, amount)
            if slowest is None:
                SHARES_REFUSED.labels(self._name).inc()
                raise Overloaded
            self._end(slowest)
            slowest.release()

    def release(self, share: Share) -> None:
        """Take a share back and grant it to those who wait; idempotent."""
        workspace_id = share.holder.workspace_id
        shares = self._shares.get(workspace_id, {})
        if share not in shares:
            return
        del shares[share]
        self._used -= share.amount
        self._held[workspace_id] -= share.amount
        if not shares:
            del self._shares[workspace_id], self._held[workspace_id]
        share.amount = 0
        self._grant()

    def _add(self, share: Share) -> Share:
        self._shares.setdefault(share.holder.workspace_id, {})[share] = None
        self._held[share.holder.workspace_id] += share.amount
        self._used += share.amount
        return share

    def _fits(self, holder: Holder, amount: int) -> bool:
        return self._is_within_share(holder, amount) and self._used + amount <= self.capacity

    def _is_within_share(self, holder: Holder, amount: int) -> bool:
        held = self._held[holder.workspace_id]
        return holder == SERVICE or not held or held + amount <= int(self.capacity * LARGEST_SHARE)

    async def _wait(self, waiter: _Waiter) -> None:
        try:
            async with asyncio.timeout(self._max_wait_s):
                while not waiter.granted.done():
                    await asyncio.wait({waiter.granted}, timeout=POLL_S)
                    if not waiter.granted.done():
                        self._end_slow(waiter)
        except BaseException as error:
            self._dequeue(waiter)
            if waiter.granted.done():
                waiter.granted.result().release()
            # A smaller request behind this one might fit now.
            self._grant()
            if isinstance(error, TimeoutError):
                SHARES_REFUSED.labels(self._name).inc()
                raise Overloaded from None
            raise

    def _enqueue(self, waiter: _Waiter) -> None:
        keys = self._waiting.setdefault(waiter.holder.workspace_id, OrderedDict())
        keys.setdefault(waiter.holder.key_id, deque()).append(waiter)

    def _dequeue(self, waiter: _Waiter) -> None:
        workspace_id, key_id = waiter.holder.workspace_id, waiter.holder.key_id
        keys = self._waiting.get(workspace_id, OrderedDict())
        queue = keys.get(key_id, deque())
        if waiter not in queue:
            return
        queue.remove(waiter)
        if not queue:
            del keys[key_id]
        if not keys:
            del self._waiting[workspace_id]

    def _grant(self) -> None:
        while (waiter := self._next()) is not None:
            workspace_id, key_id = waiter.holder.workspace_id, waiter.holder.key_id
            self._dequeue(waiter)
            # Whoever has had its turn goes to the end.
            if workspace_id in self._waiting:
                if key_id in self._waiting[workspace_id]:
                    self._waiting[workspace_id].move_to_end(key_id)
                self._waiting.move_to_end(workspace_id)
            share = Share(self, waiter.holder, waiter.amount, waiter.end, waiter.turn_s)
            waiter.granted.set_result(self._add(share))

    def _next(self) -> _Waiter | None:
        for waiter in self._first_waiters():
            if self._is_within_share(waiter.holder, waiter.amount):
                # It is this one's turn. Nobody overtakes it, or a large request would never be served.
                return waiter if self._used + waiter.amount <= self.capacity else None
        return None

    def _has_turn_pending(self) -> bool:
        """Return whether somebody waits for others to release, and not only for shares of its own workspace."""
        return any(self._is_within_share(waiter.holder, waiter.amount) for waiter in self._first_waiters())

    def _first_waiters(self) -> Iterator[_Waiter]:
        """Yield the waiter of each workspace whose turn comes first."""
        for keys in self._waiting.values():
            yield next(iter(keys.values()))[0]

    def _end_slow(self, waiter: _Waiter) -> None:
        """End the slowest share of the holder that keeps this waiter waiting; no more shares end than callers wait."""
        ending = sum(share.is_ending for shares in self._shares.values() for share in shares)
        slowest = self._slowest_for(waiter.holder, waiter.amount)
        if slowest is not None and ending < self.waiting:
            self._end(slowest)

    def _end(self, share: Share) -> None:
        share.is_ending = True
        SHARES_ENDED.labels(self._name).inc()
        if share.end is not None:
            share.end()

    def _slowest_for(self, holder: Holder, amount: int) -> Share | None:
        """Return the slowest share that can be taken back from the largest holder, to make room for this holder.

        If the holder has reached its own limit, that is one of its own workspace.
        """
        if not self._is_within_share(holder, amount):
            return self._slowest_of(holder.workspace_id)
        by_size = sorted(self._held, key=lambda one: self._held[one], reverse=True)
        return next((found for one in by_size if (found := self._slowest_of(one)) is not None), None)

    def _slowest_of(self, workspace_id: UUID) -> Share | None:
        shares = self._shares.get(workspace_id, {})
        return min((one for one in shares if one.can_end), key=lambda one: one.rate, default=None)
