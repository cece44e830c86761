"""The fleet's rate towards the embedding model, kept in Redis; in this process's memory while Redis is away."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ragsvc.queue.scripts import Script

if TYPE_CHECKING:
    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings

# KEYS: the hash. ARGV, all but the last in µs: what the requests cost, what the tokens cost, how much of an idle time
# may be made up for, the largest debt that those make who do not wait, how long to hold, and 1 for those who wait.
# Returns 0 when the budgets were taken, or how long to wait until there is reason to ask again.
TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('HMGET', KEYS[1], 'requests_at', 'tokens_at', 'held_until')
local burst, most_debt, waits = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6] == '1'
local requests_at = math.max(tonumber(stored[1]) or 0, now - burst)
local tokens_at = math.max(tonumber(stored[2]) or 0, now - burst)
local held_until = math.max(tonumber(stored[3]) or 0, now + ARGV[5])
local wait = math.max(requests_at, tokens_at, held_until) - now
if waits and wait > 0 then
    return math.ceil(wait)
end
local function charge(at, cost)
    return waits and at + cost or math.max(at, math.min(at + cost, now + most_debt))
end
requests_at = charge(requests_at, ARGV[1])
tokens_at = charge(tokens_at, ARGV[2])
redis.call('HSET', KEYS[1], 'requests_at', string.format('%.0f', requests_at),
    'tokens_at', string.format('%.0f', tokens_at), 'held_until', string.format('%.0f', held_until))
local latest = math.max(requests_at, tokens_at, held_until)
redis.call('PEXPIRE', KEYS[1], math.ceil((latest - now + burst) / 1000) + 1)
return 0
"""

MINUTE_US = 60_000_000
SECOND_US = 1_000_000
# Nobody's pause is made up for beyond this, so that a minute never sees more than a tenth over the rate, and one call.
BURST_US = MINUTE_US // 10
# A rush of queries holds ingestion up for so long after its end, at most: no provider looks back further.
MOST_DEBT_US = MINUTE_US
# A provider that names a longer time is asked again after this.
LONGEST_HOLD_S = 600.0
# What one waits for may change meanwhile: Redis emptied, or back.
LOOK_AGAIN_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Take:
    """What is asked of the budgets; all costs are the time in which they come back, in µs."""

    requests: int = 0
    tokens: int = 0
    hold: int = 0
    waits: bool = False


class RedisProviderRate:
    """The `ProviderRate` of model calls, in Redis.

    EMBEDDING_REQUESTS_PER_MINUTE and EMBEDDING_TOKENS_PER_MINUTE, for all processes of the prefix together.

    Each budget is the generic cell rate algorithm (GCRA) in its form of virtual scheduling: what is stored is the time
    at which the budget is paid back, a call may go once that lies behind, and each call moves it on by its own cost.
    A call may cost more than there is: the debt keeps the next ones waiting, so large batches do not starve behind
    small ones. Nothing is taken for those who wait, so there is nothing to give back when they stop waiting.

    While Redis is away the process keeps the same account in its memory, by the same rate: a fleet of n processes may
    then send n times as much, and the provider's own 429 holds each of them.

    Source: ITU-T Recommendation I.371 (2004), annex A, "Generic cell rate algorithm".
    """

    def __init__(self, redis: RedisConnection, settings: Settings) -> None:
        self._script = Script(redis, TAKE, name="embedding")
        self._key = f"{settings.stores.queue_prefix}:limit:embedding"
        self._request_us = MINUTE_US / (settings.llm.embedding_requests_per_minute or float("inf"))
        self._token_us = MINUTE_US / (settings.llm.embedding_tokens_per_minute or float("inf"))
        self._own = _OwnBudgets()
        # Of the calls of one process only the first in the line asks; a lock wakes in the order of arrival.
        self._line = asyncio.Lock()

    async def wait_for_turn(self, *, tokens: int) -> None:
        """Return once both budgets allow a request of so many tokens, which are then taken."""
        asked = _Take(*self._cost(tokens), waits=True)
        async with self._line:
            wait_s = await self._take(asked)
            while wait_s > 0:
                await asyncio.sleep(min(wait_s, LOOK_AGAIN_S))
                wait_s = await self._take(asked)

    async def go_first(self, *, tokens: int) -> None:
        """Take a request of so many tokens at once, into debt if need be."""
        if any(cost := self._cost(tokens)):
            await self._take(_Take(*cost))

    async def hold(self, *, seconds: float) -> None:
        """Give nobody of the fleet a turn for so long, at most LONGEST_HOLD_S."""
        seconds = min(seconds, LONGEST_HOLD_S)
        log.warning("embedding_held", seconds=seconds)
        held = _Take(hold=round(seconds * SECOND_US))
        # Here too, in case that Redis goes away meanwhile.
        self._own.take(held)
        await self._take(held)

    def _cost(self, tokens: int) -> tuple[int, int]:
        return round(self._request_us), round(tokens * self._token_us)

    async def _take(self, asked: _Take) -> float:
        """Return 0 when it was taken, else the seconds after which it can be."""
        wait_us = await self._script.run(
            self._key, asked.requests, asked.tokens, BURST_US, MOST_DEBT_US, asked.hold, int(asked.waits)
        )
        return self._own.take(asked) if wait_us is None else float(wait_us) / SECOND_US


class _OwnBudgets:
    """What TAKE does, in this process's memory."""

    def __init__(self) -> None:
        self._requests_at = self._tokens_at = self._held_until = 0

    def take(self, asked: _Take) -> float:
        """Return 0 when it was taken, else the seconds after which it can be."""
        now = time.monotonic_ns() // 1000
        requests_at, tokens_at = (max(at, now - BURST_US) for at in (self._requests_at, self._tokens_at))
        held_until = max(self._held_until, now + asked.hold)
        wait_us = max(requests_at, tokens_at, held_until) - now
        if asked.waits and wait_us > 0:
            return wait_us / SECOND_US
        most = now + MOST_DEBT_US
        self._requests_at = _charge(requests_at, asked.requests, most=None if asked.waits else most)
        self._tokens_at = _charge(tokens_at, asked.tokens, most=None if asked.waits else most)
        self._held_until = held_until
        return 0.0


def _charge(at: int, cost: int, *, most: int | None) -> int:
    return at + cost if most is None else max(at, min(at + cost, most))
