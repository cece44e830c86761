"""How often each key may ask: token buckets in Redis; in this process's memory while Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ragsvc.queue.scripts import Script
from ragsvc.tasks import cancel_and_wait

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings

# KEYS: when the bucket will be full, in µs. ARGV: what a token costs and what a full bucket holds, in µs, how many
# tokens were spent already, and how many more are wanted. Returns how many of these there were, and in how many µs the
# bucket is full.
DRAW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost, full, spent, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local at = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now) + spent * cost
local granted = math.max(0, math.min(wanted, math.floor((now + full - at) / cost)))
at = at + granted * cost
if spent + granted > 0 then
    redis.call('SET', KEYS[1], string.format('%.0f', at), 'PX', math.ceil((at - now) / 1000) + 1)
end
return {granted, at - now}
"""

SECOND_US = 1_000_000
# What one process lets through before it is charged is at most this part of a bucket.
SHARE = 20
# What is owed is charged together after so long.
SETTLE_S = 0.02
# Keys that are remembered; a forgotten one is only met anew.
MOST_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """What a key may ask by now: `remaining` of `limit` requests, all of them in `full_in_s`.

    `wait_s` is 0 for a request that may go; else it may in so long.
    """

    limit: int
    remaining: int
    full_in_s: float
    wait_s: float


@dataclass(slots=True)
class _Bucket:
    """What this process knows of one key's bucket."""

    # In µs of this process's clock; what others took since it was last looked at is not in it.
    full_at: int = 0
    # Let through and not charged in Redis yet; `full_at` has it.
    owed: int = 0
    # Drawn for those who wait for their turn.
    granted: int = 0
    waiting: int = 0
    is_settling: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClientRates:
    """RATE_LIMIT_RPS and RATE_LIMIT_BURST for every key, in all processes of the prefix together.

    A bucket is the generic cell rate algorithm (GCRA) in its form of virtual scheduling, as in `rate_limit`: what is
    stored is the time at which it will be full again.

    Nobody waits for Redis while the bucket is more than half full as far as this process knows: the request goes, and
    its token is charged soon after. A process owes at most a twentieth of a bucket (one token of a small one), and
    all that is owed is charged, so n processes together let through at most n times that in advance, and nothing more
    over time. From half on every request asks Redis first, those that come at once in one question. A key that is
    refused is refused from memory until there is a token again.

    While Redis is away each process keeps the same account alone, so n processes may let through n times as much.
    """

    def __init__(self, redis: RedisConnection, settings: Settings) -> None:
        self._limit = settings.api.rate_limit_burst
        self._cost_us = max(1, round(SECOND_US / settings.api.rate_limit_rps)) if settings.api.rate_limit_rps else 0
        self._full_us = self._limit * self._cost_us
        self._most_owed = max(1, self._limit // SHARE)
        self._prefix = f"{settings.stores.queue_prefix}:limit:key:"
        self._script = Script(redis, DRAW, name="key")
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()
        self._settling: set[asyncio.Task[None]] = set()

    @property
    def is_on(self) -> bool:
        """Whether there is a limit."""
        return self._cost_us > 0

    async def take(self, key_id: UUID) -> Rate:
        """Take one of the key's tokens, unless the rate's `wait_s` says that there is none."""
        bucket = self._find(key_id)
        now = _now_us()
        if self._wait_us(bucket, now) > 0:
            return self._tell(bucket, now, is_refused=True)
        if bucket.owed < self._most_owed and self._left(bucket, now) > self._limit // 2:
            bucket.owed += 1
            bucket.full_at = max(bucket.full_at, now) + self._cost_us
            self._settle_soon(key_id, bucket)
            return self._tell(bucket, now, is_refused=False)
        is_granted = await self._draw_in_turn(key_id, bucket)
        return self._tell(bucket, _now_us(), is_refused=not is_granted)

    async def close(self) -> None:
        """Give up what is still to be charged."""
        await cancel_and_wait(*self._settling)

    def _find(self, key_id: UUID) -> _Bucket:
        bucket = self._buckets.setdefault(key_id, _Bucket())
        self._buckets.move_to_end(key_id)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        return bucket

    def _settle_soon(self, key_id: UUID, bucket: _Bucket) -> None:
        if not bucket.is_settling:
            bucket.is_settling = True
            task = asyncio.create_task(self._settle(key_id, bucket))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def _settle(self, key_id: UUID, bucket: _Bucket) -> None:
        try:
            await asyncio.sleep(SETTLE_S)
            async with bucket.turn:
                while bucket.owed:
                    await self._draw(key_id, bucket, wanted=0)
        finally:
            bucket.is_settling = False

    async def _draw_in_turn(self, key_id: UUID, bucket: _Bucket) -> bool:
        """Return whether there was a token. The first of those who wait draws for all of them."""
        bucket.waiting += 1
        try:
            async with bucket.turn:
                if not bucket.granted and self._wait_us(bucket, _now_us()) <= 0:
                    await self._draw(key_id, bucket, wanted=bucket.waiting)
                is_granted = bucket.granted > 0
                bucket.granted -= is_granted
                return is_granted
        finally:
            bucket.waiting -= 1

    async def _draw(self, key_id: UUID, bucket: _Bucket, *, wanted: int) -> None:
        """Charge what is owed, and draw up to `wanted` tokens."""
        owed = bucket.owed
        answer = await self._script.run(self._prefix + key_id.hex, self._cost_us, self._full_us, owed, wanted)
        now = _now_us()
        if answer is None:
            granted = min(wanted, self._left(bucket, now))
            bucket.owed = 0
            bucket.full_at = max(bucket.full_at, now) + granted * self._cost_us
        else:
            granted, full_in_us = answer
            bucket.owed -= owed
            bucket.full_at = now + full_in_us + bucket.owed * self._cost_us
        bucket.granted += granted

    def _left(self, bucket: _Bucket, now: int) -> int:
        return max(0, now + self._full_us - max(bucket.full_at, now)) // self._cost_us

    def _wait_us(self, bucket: _Bucket, now: int) -> int:
        """Return how long the bucket will be without a token; not above 0 when it has one."""
        return bucket.full_at + self._cost_us - self._full_us - now

    def _tell(self, bucket: _Bucket, now: int, *, is_refused: bool) -> Rate:
        return Rate(
            limit=self._limit,
            remaining=0 if is_refused else self._left(bucket, now),
            full_in_s=max(0, bucket.full_at - now) / SECOND_US,
            # One that is refused waits, however short the wait is by now.
            wait_s=max(1, self._wait_us(bucket, now)) / SECOND_US if is_refused else 0.0,
        )


def _now_us() -> int:
    return time.monotonic_ns() // 1000
