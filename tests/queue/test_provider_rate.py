"""The fleet's rate limit: shared by processes, local while Redis is unavailable, and never delaying a query."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from ragsvc.devstack.ports import free_ports
from ragsvc.queue import provider_rate, scripts
from ragsvc.queue.connection import open_redis
from ragsvc.queue.provider_rate import RedisProviderRate
from tests.http.support.proxy import Proxy
from tests.support.polling import until
from tests.support.servers.redis import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings

    OpenLimit = Callable[..., RedisProviderRate]

# One request every 10 ms, or one token every 1 ms; an idle fleet can use 6 seconds' worth at once as a burst.
REQUESTS_PER_MINUTE = 6000
TOKENS_PER_MINUTE = 60_000
BURST_REQUESTS = 600
BURST_TOKENS = 6000
DEADLINE_S = 60.0


@pytest.fixture
async def open_limit(own_settings: Settings) -> AsyncIterator[OpenLimit]:
    """Opens rate limiters that share only Redis, as processes do."""
    async with AsyncExitStack() as stack:

        def open_one(
            *, requests_per_minute: int | None = None, tokens_per_minute: int | None = None, redis_url: str = ""
        ) -> RedisProviderRate:
            settings = own_settings.changed(
                {
                    "embedding_requests_per_minute": requests_per_minute,
                    "embedding_tokens_per_minute": tokens_per_minute,
                    "redis_url": SecretStr(redis_url) if redis_url else own_settings.stores.redis_url,
                }
            )
            connection = open_redis(settings)
            stack.push_async_callback(connection.aclose)
            return RedisProviderRate(connection, settings)

        yield open_one


async def take(limit: RedisProviderRate, *, calls: int, tokens: int = 1) -> None:
    for _ in range(calls):
        await limit.wait_for_turn(tokens=tokens)


async def start_waiting_call(limit: RedisProviderRate, *, tokens: int = 1) -> asyncio.Task[None]:
    """Return a call that waits."""
    call = asyncio.create_task(limit.wait_for_turn(tokens=tokens))
    # With a debt of a minute, no call is released during the test.
    await until(limit._turn.locked)
    assert not (await asyncio.wait({call}, timeout=0.1))[0]
    return call


async def cancel(call: asyncio.Task[None]) -> None:
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def debt_s(redis: RedisConnection, limit: RedisProviderRate, field: str) -> float:
    """Return the seconds until a budget is paid back."""
    seconds, microseconds = await command(redis, "TIME")
    at = await command(redis, "HGET", limit._key, field)
    return int(at) / 1e6 - int(seconds) - int(microseconds) / 1e6


def assert_paid_back_in(expected_s: float, debt: float, *, began: float) -> None:
    """Assert that the debt was `expected_s` when it arose, at some time after `began`, and has been shrinking since."""
    elapsed_s = time.monotonic() - began
    assert expected_s - elapsed_s - 0.1 <= debt <= expected_s


async def test_two_processes_share_the_rate_of_requests(open_limit: OpenLimit) -> None:
    one, other = (open_limit(requests_per_minute=REQUESTS_PER_MINUTE) for _ in range(2))
    began = time.monotonic()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(take(one, calls=350), take(other, calls=350))
    # The burst covers 600 calls, so the last of the other 100 is sent after 99 times 10 ms.
    assert time.monotonic() - began >= 0.98


async def test_two_processes_share_the_rate_of_tokens(open_limit: OpenLimit) -> None:
    one, other = (open_limit(tokens_per_minute=TOKENS_PER_MINUTE) for _ in range(2))
    began = time.monotonic()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(take(one, calls=4, tokens=1000), take(other, calls=4, tokens=1000))
    # The burst covers 6000 tokens. The seventh call goes into debt, and the eighth waits until that is paid back.
    assert time.monotonic() - began >= 0.99


async def test_a_call_is_charged_to_both_budgets_and_waits_for_the_scarcer_one(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE, tokens_per_minute=TOKENS_PER_MINUTE)
    began = time.monotonic()
    await limit.wait_for_turn(tokens=BURST_TOKENS + 60_000)
    assert_paid_back_in(60, await debt_s(redis, limit, "tokens_at"), began=began)
    assert await debt_s(redis, limit, "requests_at") < 0
    await cancel(await start_waiting_call(limit))


async def test_a_batch_above_the_budget_is_sent_and_delays_the_next_call(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    limit = open_limit(tokens_per_minute=TOKENS_PER_MINUTE)
    began = time.monotonic()
    async with asyncio.timeout(DEADLINE_S):
        await limit.wait_for_turn(tokens=10 * BURST_TOKENS)
    # The burst covers a tenth of the cost, and the rest is debt.
    assert_paid_back_in(54, await debt_s(redis, limit, "tokens_at"), began=began)
    await cancel(await start_waiting_call(limit))


async def test_calls_of_one_process_are_sent_in_the_order_of_their_arrival(open_limit: OpenLimit) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE)
    await take(limit, calls=BURST_REQUESTS)
    sent: list[int] = []

    async def call(number: int) -> None:
        await limit.wait_for_turn(tokens=1)
        sent.append(number)

    await asyncio.gather(*(call(number) for number in range(10)))
    assert sent == list(range(10))


async def test_a_query_does_not_wait_and_delays_ingestion_instead(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    ingestion, query = (open_limit(tokens_per_minute=TOKENS_PER_MINUTE) for _ in range(2))
    await ingestion.wait_for_turn(tokens=BURST_TOKENS + 30_000)
    waiting = await start_waiting_call(ingestion)
    began = time.monotonic()
    before = await debt_s(redis, ingestion, "tokens_at")
    async with asyncio.timeout(DEADLINE_S):
        await query.go_first(tokens=10_000)
    assert_paid_back_in(before + 10, await debt_s(redis, ingestion, "tokens_at"), began=began)
    await cancel(waiting)


async def test_a_burst_of_queries_delays_ingestion_for_at_most_a_minute(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    limit = open_limit(tokens_per_minute=TOKENS_PER_MINUTE)
    began = time.monotonic()
    await asyncio.gather(*(limit.go_first(tokens=30_000) for _ in range(10)))
    assert_paid_back_in(60, await debt_s(redis, limit, "tokens_at"), began=began)


async def test_a_cancelled_waiting_call_is_not_charged(open_limit: OpenLimit, redis: RedisConnection) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE, tokens_per_minute=TOKENS_PER_MINUTE)
    await limit.wait_for_turn(tokens=BURST_TOKENS + 60_000)
    before = await command(redis, "HGETALL", limit._key)
    first = await start_waiting_call(limit, tokens=50_000)
    second = asyncio.create_task(limit.wait_for_turn(tokens=50_000))
    await cancel(first)
    await cancel(second)
    assert await command(redis, "HGETALL", limit._key) == before
    assert not limit._turn.locked()


async def test_a_cancellation_is_never_lost(open_limit: OpenLimit) -> None:
    limit = open_limit()
    await limit.hold(seconds=60)
    for steps in range(40):
        call = asyncio.create_task(limit.wait_for_turn(tokens=1))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        assert call in (await asyncio.wait({call}, timeout=2.0))[0], f"a cancellation after {steps} steps was lost"
        assert call.cancelled()


async def test_a_retry_after_holds_the_whole_fleet_even_without_a_limit(open_limit: OpenLimit) -> None:
    one, other = open_limit(), open_limit()
    await take(other, calls=200)
    began = time.monotonic()
    await one.hold(seconds=0.7)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(other.wait_for_turn(tokens=1), one.wait_for_turn(tokens=1))
    assert time.monotonic() - began >= 0.7


async def test_a_shorter_retry_after_does_not_end_a_longer_one_and_a_query_ignores_both(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE)
    began = time.monotonic()
    await limit.hold(seconds=30)
    await limit.hold(seconds=1)
    assert_paid_back_in(30, await debt_s(redis, limit, "held_until"), began=began)
    async with asyncio.timeout(DEADLINE_S):
        await limit.go_first(tokens=1)
    await cancel(await start_waiting_call(limit))


async def test_a_retry_after_of_a_day_is_capped(open_limit: OpenLimit, redis: RedisConnection) -> None:
    limit = open_limit()
    await limit.hold(seconds=86_400)
    assert await debt_s(redis, limit, "held_until") <= provider_rate.MAX_HOLD_S


async def test_the_key_of_a_budget_that_is_paid_back_expires(open_limit: OpenLimit, redis: RedisConnection) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE)
    await take(limit, calls=BURST_REQUESTS)
    assert 0 < await command(redis, "PTTL", limit._key) <= 6000 + 1000


async def test_without_redis_each_process_limits_the_rate_alone(open_limit: OpenLimit) -> None:
    away = f"redis://127.0.0.1:{free_ports(1)[0]}/0"
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE, redis_url=away)
    began = time.monotonic()
    await take(limit, calls=BURST_REQUESTS + 50)
    assert time.monotonic() - began >= 0.49
    await limit.hold(seconds=30)
    async with asyncio.timeout(DEADLINE_S):
        await limit.go_first(tokens=1)
    await cancel(await start_waiting_call(limit))


async def test_the_budgets_in_memory_behave_like_those_in_redis(open_limit: OpenLimit) -> None:
    away = f"redis://127.0.0.1:{free_ports(1)[0]}/0"
    for redis_url in ("", away):
        limit = open_limit(tokens_per_minute=TOKENS_PER_MINUTE, redis_url=redis_url)
        began = time.monotonic()
        await asyncio.gather(*(limit.go_first(tokens=40_000) for _ in range(10)))
        assert_paid_back_in(60, await limit._take(provider_rate._Take(tokens=1, waits=True)), began=began)
        await cancel(await start_waiting_call(limit))


async def test_a_process_uses_the_shared_budgets_again_when_redis_is_back(
    open_limit: OpenLimit, redis: RedisConnection, own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "AWAY_S", 0.2)
    there = urlsplit(own_settings.stores.redis_url.get_secret_value())
    async with Proxy(str(there.hostname), there.port or 6379) as way:
        url = there._replace(netloc=f":{there.password or ''}@{way.host}:{way.port}").geturl()
        limit = open_limit(tokens_per_minute=TOKENS_PER_MINUTE, redis_url=url)
        # A debt large enough that the key does not expire during the test.
        await limit.go_first(tokens=40_000)
        taken = await command(redis, "HGETALL", limit._key)
        await way.cut()
        await limit.go_first(tokens=1000)
        assert await command(redis, "HGETALL", limit._key) == taken
        await way.mend()

        async def is_back() -> bool:
            await limit.go_first(tokens=1)
            return bool(await command(redis, "HGETALL", limit._key) != taken)

        await until(is_back)
        assert await command(redis, "EXISTS", limit._key)
