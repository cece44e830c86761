"""The fleet's rate limit for the embedding provider: in Redis, or in process memory while Redis is unavailable."""

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

# KEYS: the hash. ARGV, all but the flag in µs: the cost of the requests, the cost of the tokens, the idle time that can
# be used as a burst, the maximum debt of callers that do not wait, the duration of a hold, 1 if the caller waits, and
# how far ahead a stored time can be. Returns 0 if the budgets were charged, else the time in µs before trying again.
TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('HMGET', KEYS[1], 'requests_at', 'tokens_at', 'held_until')
local burst, most_debt, waits = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6] == '1'
-- Bounded, so that a stored time that this script did not write cannot hold the fleet for ever.
local latest_at = now + tonumber(ARGV[7])
local function read(value, earliest)
    return math.max(math.min(tonumber(value) or 0, latest_at), earliest)
end
local requests_at = read(stored[1], now - burst)
local tokens_at = read(stored[2], now - burst)
local held_until = read(stored[3], now + ARGV[5])
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
# Idle time beyond this is not used as a burst, so no minute exceeds the rate by more than 10 % and one call.
BURST_US = MINUTE_US // 10
# Longest time for which a burst of queries can delay ingestion once the burst is over; no provider counts over a longer
# window.
MAX_DEBT_US = MINUTE_US
# Upper bound for the Retry-After of a provider.
MAX_HOLD_S = 600.0
# Longest time that a budget can be overdrawn: one call can cost many minutes of a small budget.
MAX_AHEAD_US = 60 * MINUTE_US
# Longest sleep before checking again, since Redis may have been emptied or come back.
RECHECK_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Take:
    """A charge against the budgets; each cost is the time in µs that its budget takes to recover from it."""

    requests: int = 0
    tokens: int = 0
    hold: int = 0
    waits: bool = False


class RedisProviderRate:
    """The `ProviderRate` of model calls, in Redis.

    EMBEDDING_REQUESTS_PER_MINUTE and EMBEDDING_TOKENS_PER_MINUTE, shared by all processes with the same prefix.

    Each budget is the virtual scheduling form of the generic cell rate algorithm (GCRA): the stored value is the time
    at which the budget is paid back, a call can be sent once that time has passed, and each call advances it by its
    cost. A call can cost more than the budget has: the debt delays the next calls, so large batches do not starve
    behind small ones. A waiting call is not charged, so a cancelled one needs no refund.

    While Redis is unavailable, each process counts for itself at the same rate: n processes can then send n times as
    much, and each is held back by the provider's own 429s.

    Source: ITU-T Recommendation I.371 (2004), annex A, "Generic cell rate algorithm".
    """

    def __init__(self, redis: RedisConnection, settings: Settings) -> None:
        self._script = Script(redis, TAKE, name="embedding")
        self._key = f"{settings.stores.queue_prefix}:limit:embedding"
        self._request_us = MINUTE_US / (settings.llm.embedding_requests_per_minute or float("inf"))
        self._token_us = MINUTE_US / (settings.llm.embedding_tokens_per_minute or float("inf"))
        self._own = _OwnBudgets()
        # Only the first waiting call of a process polls; asyncio.Lock wakes the others in order of arrival.
        self._turn = asyncio.Lock()

    async def wait_for_turn(self, *, tokens: int) -> None:
        """Wait until both budgets allow a request of this many tokens, and charge it."""
        charge = _Take(*self._cost(tokens), waits=True)
        async with self._turn:
            wait_s = await self._take(charge)
            while wait_s > 0:
                await asyncio.sleep(min(wait_s, RECHECK_S))
                wait_s = await self._take(charge)

    async def go_first(self, *, tokens: int) -> None:
        """Charge a request of this many tokens without waiting, even into debt."""
        if any(cost := self._cost(tokens)):
            await self._take(_Take(*cost))

    async def hold(self, *, seconds: float) -> None:
        """Let no process of the fleet send calls for this long, at most MAX_HOLD_S; `go_first` ignores the hold."""
        seconds = min(seconds, MAX_HOLD_S)
        log.warning("embedding_held", seconds=seconds)
        held = _Take(hold=round(seconds * SECOND_US))
        # In memory too, in case Redis becomes unavailable.
        self._own.take(held)
        await self._take(held)

    def _cost(self, tokens: int) -> tuple[int, int]:
        return round(self._request_us), round(tokens * self._token_us)

    async def _take(self, charge: _Take) -> float:
        """Return 0 if the budgets were charged, else the seconds before trying again."""
        wait_us = await self._script.run(
            self._key,
            charge.requests,
            charge.tokens,
            BURST_US,
            MAX_DEBT_US,
            charge.hold,
            int(charge.waits),
            MAX_AHEAD_US,
        )
        return self._own.take(charge) if wait_us is None else float(wait_us) / SECOND_US


class _OwnBudgets:
    """The same budgets as in TAKE, in process memory."""

    def __init__(self) -> None:
        self._requests_at = self._tokens_at = self._held_until = 0

    def take(self, charge: _Take) -> float:
        """Return 0 if the budgets were charged, else the seconds before trying again."""
        now = time.monotonic_ns() // 1000
        requests_at, tokens_at = (max(at, now - BURST_US) for at in (self._requests_at, self._tokens_at))
        held_until = max(self._held_until, now + charge.hold)
        wait_us = max(requests_at, tokens_at, held_until) - now
        if charge.waits and wait_us > 0:
            return wait_us / SECOND_US
        most = now + MAX_DEBT_US
        self._requests_at = _charge(requests_at, charge.requests, most=None if charge.waits else most)
        self._tokens_at = _charge(tokens_at, charge.tokens, most=None if charge.waits else most)
        self._held_until = held_until
        return 0.0


def _charge(at: int, cost: int, *, most: int | None) -> int:
    return at + cost if most is None else max(at, min(at + cost, most))
