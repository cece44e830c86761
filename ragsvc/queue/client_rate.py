"""The rate limit of each API key: token buckets in Redis, or in process memory while Redis is unavailable."""

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

# KEYS: the time at which the bucket will be full, in µs. ARGV: the cost of a token and of a full bucket in µs, the
# number of tokens already spent, and the number of tokens wanted. Returns the number of tokens granted, and the time
# until the bucket is full in µs.
DRAW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost, full, spent, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- Bounded, so that a stored time that this script did not write cannot refuse a key for ever.
local stored = math.min(tonumber(redis.call('GET', KEYS[1])) or 0, now + 100 * full)
local at = math.max(stored, now) + spent * cost
local granted = math.max(0, math.min(wanted, math.floor((now + full - at) / cost)))
at = at + granted * cost
if spent + granted > 0 then
    redis.call('SET', KEYS[1], string.format('%.0f', at), 'PX', math.ceil((at - now) / 1000) + 1)
end
return {granted, at - now}
"""

SECOND_US = 1_000_000
# A process grants at most 1/SHARE of a bucket before it charges Redis.
SHARE = 20
# Delay before pending tokens are charged to Redis in one call.
SETTLE_S = 0.02
# Number of keys whose buckets are cached in memory; the bucket of an evicted key remains in Redis.
MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """The state of a key's limit: `remaining` of `limit` requests, and `full_in_s` until all are available again.

    `wait_s` is 0 for a granted request, else the time until the next one can be granted.
    """

    limit: int
    remaining: int
    full_in_s: float
    wait_s: float


@dataclass(slots=True)
class _Bucket:
    """One key's bucket as this process knows it."""

    # In µs of this process's clock; does not include what other processes have taken since the last call to Redis.
    full_at: int = 0
    # Tokens granted but not charged to Redis yet; `full_at` includes them.
    owed: int = 0
    # Tokens drawn from Redis for the requests that wait for `turn`.
    granted: int = 0
    waiting: int = 0
    is_settling: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClientRates:
    """RATE_LIMIT_RPS and RATE_LIMIT_BURST for every key, shared by all processes with the same prefix.

    A bucket is the virtual scheduling form of the generic cell rate algorithm (GCRA), as in `provider_rate`: the
    stored value is the time at which the bucket will be full again.

    While the bucket is, as far as this process knows, more than half full, a request is granted without waiting for
    Redis, and its token is charged shortly after. A process owes at most 1/20 of a bucket (but at least one token), and
    all owed tokens are charged, so n processes can exceed the burst by n times that, but never the long-term rate.
    Below half, requests wait for Redis, and concurrent ones share a call. A refused key is refused from memory until a
    token is available again.

    While Redis is unavailable, each process counts for itself, so n processes can grant n times the rate.
    """

    def __init__(self, redis: RedisConnection, settings: Settings) -> None:
        self._limit = settings.api.rate_limit_burst
        self._cost_us = max(1, round(SECOND_US / settings.api.rate_limit_rps)) if settings.api.rate_limit_rps else 0
        self._full_us = self._limit * self._cost_us
        self._max_owed = max(1, self._limit // SHARE)
        self._prefix = f"{settings.stores.queue_prefix}:limit:key:"
        self._script = Script(redis, DRAW, name="key")
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()
        self._settling: set[asyncio.Task[None]] = set()

    @property
    def is_on(self) -> bool:
        """Whether there is a limit."""
        return self._cost_us > 0

    async def take(self, key_id: UUID) -> Rate:
        """Take one of the key's tokens; the result's `wait_s` is above 0 if there is none."""
        bucket = self._find(key_id)
        now = _now_us()
        if self._wait_us(bucket, now) > 0:
            return self._to_rate(bucket, now, is_refused=True)
        if bucket.owed < self._max_owed and self._left(bucket, now) > self._limit // 2:
            bucket.owed += 1
            bucket.full_at = max(bucket.full_at, now) + self._cost_us
            self._settle_soon(key_id, bucket)
            return self._to_rate(bucket, now, is_refused=False)
        is_granted = await self._draw_in_turn(key_id, bucket)
        return self._to_rate(bucket, _now_us(), is_refused=not is_granted)

    async def close(self) -> None:
        """Drop the charges that are still pending."""
        await cancel_and_wait(*self._settling)

    def _find(self, key_id: UUID) -> _Bucket:
        bucket = self._buckets.setdefault(key_id, _Bucket())
        self._buckets.move_to_end(key_id)
        if len(self._buckets) > MAX_KEYS:
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
        """Return whether a token was granted. The first of the waiting requests draws tokens for all of them."""
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
        """Charge the owed tokens, and draw up to `wanted` new ones."""
        owed = bucket.owed
        reply = await self._script.run(self._prefix + key_id.hex, self._cost_us, self._full_us, owed, wanted)
        now = _now_us()
        if reply is None:
            granted = min(wanted, self._left(bucket, now))
            bucket.owed = 0
            bucket.full_at = max(bucket.full_at, now) + granted * self._cost_us
        else:
            granted, full_in_us = reply
            bucket.owed -= owed
            bucket.full_at = now + full_in_us + bucket.owed * self._cost_us
        bucket.granted += granted

    def _left(self, bucket: _Bucket, now: int) -> int:
        return max(0, now + self._full_us - max(bucket.full_at, now)) // self._cost_us

    def _wait_us(self, bucket: _Bucket, now: int) -> int:
        """Return the time in µs until the bucket has a token; 0 or less if it has one now."""
        return bucket.full_at + self._cost_us - self._full_us - now

    def _to_rate(self, bucket: _Bucket, now: int, *, is_refused: bool) -> Rate:
        return Rate(
            limit=self._limit,
            remaining=0 if is_refused else self._left(bucket, now),
            full_in_s=max(0, bucket.full_at - now) / SECOND_US,
            # A refused request always gets a positive wait, even if a token has become available since.
            wait_s=max(1, self._wait_us(bucket, now)) / SECOND_US if is_refused else 0.0,
        )


def _now_us() -> int:
    return time.monotonic_ns() // 1000
