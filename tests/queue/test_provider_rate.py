"""The fleet's rate: kept by many processes together, by each alone while Redis is away, and never in a query's way."""

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
from ragsvc.queue.provider_rate import ProviderRate
from tests.http.support.proxy import Proxy
from tests.support.polling import until
from tests.support.servers.redis import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings

    OpenLimit = Callable[..., ProviderRate]

# One request every 10 ms, or a token every tenth of that; what an idle fleet may make up for is 6 s of it.
REQUESTS_PER_MINUTE = 6000
TOKENS_PER_MINUTE = 60_000
SAVED_REQUESTS = 600
SAVED_TOKENS = 6000


@pytest.fixture
async def open_limit(own_settings: Settings) -> AsyncIterator[OpenLimit]:
    """Opens limits that share nothing but Redis, as processes do."""
    async with AsyncExitStack() as stack:

        def open_one(
            *, requests_per_minute: int | None = None, tokens_per_minute: int | None = None, redis_url: str = ""
        ) -> ProviderRate:
            settings = own_settings.changed(
                {
                    "embedding_requests_per_minute": requests_per_minute,
                    "embedding_tokens_per_minute": tokens_per_minute,
                    "redis_url": SecretStr(redis_url) if redis_url else own_settings.stores.redis_url,
                }
            )
            connection = open_redis(settings)
            stack.push_async_callback(connection.aclose)
            return ProviderRate(connection, settings)

        yield open_one


async def take(limit: ProviderRate, *, calls: int, tokens: int = 1) -> None:
    for _ in range(calls):
        await limit.wait_for_turn(tokens=tokens)


async def waits(limit: ProviderRate, *, tokens: int = 1) -> asyncio.Task[None]:
    """Return a call that has been told to wait."""
    call = asyncio.create_task(limit.wait_for_turn(tokens=tokens))
    # A debt of a minute: nobody is let go while the test looks.
    await until(limit._turn.locked)
    assert not (await asyncio.wait({call}, timeout=0.1))[0]
    return call


async def give_up(call: asyncio.Task[None]) -> None:
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def debt_s(redis: RedisConnection, limit: ProviderRate, field: str) -> float:
    """Return how far in the future a budget is paid back."""
    seconds, microseconds = await command(redis, "TIME")
    at = await command(redis, "HGET", limit._key, field)
    return int(at) / 1e6 - int(seconds) - int(microseconds) / 1e6


async def test_two_processes_together_keep_the_rate_of_requests(open_limit: OpenLimit) -> None:
    one, other = (open_limit(requests_per_minute=REQUESTS_PER_MINUTE) for _ in range(2))
    began = time.monotonic()
    await asyncio.gather(take(one, calls=350), take(other, calls=350))
    # Nothing was saved for the last hundred, of which the last goes when 99 times 10 ms have passed.
    assert 0.98 <= time.monotonic() - began < 10


async def test_two_processes_together_keep_the_rate_of_tokens(open_limit: OpenLimit) -> None:
    one, other = (open_limit(tokens_per_minute=TOKENS_PER_MINUTE) for _ in range(2))
    began = time.monotonic()
    await asyncio.gather(take(one, calls=4, tokens=1000), take(other, calls=4, tokens=1000))
    # 6000 tokens were saved, one call overdraws, and the eighth goes when that and the seventh are paid back.
    assert 0.99 <= time.monotonic() - began < 10


async def test_the_scarcer_of_both_budgets_counts_and_both_are_taken(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE, tokens_per_minute=TOKENS_PER_MINUTE)
    await limit.wait_for_turn(tokens=SAVED_TOKENS + 60_000)
    assert 55 < await debt_s(redis, limit, "tokens_at") <= 60
    assert await debt_s(redis, limit, "requests_at") < 0
    await give_up(await waits(limit))


async def test_a_batch_above_the_budget_goes_and_the_next_call_pays(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    limit = open_limit(tokens_per_minute=TOKENS_PER_MINUTE)
    async with asyncio.timeout(5):
        await limit.wait_for_turn(tokens=10 * SAVED_TOKENS)
    # What was saved is paid at once; the other nine tenths are owed.
    assert 49 < await debt_s(redis, limit, "tokens_at") <= 54
    await give_up(await waits(limit))


async def test_calls_of_one_process_go_in_the_order_of_their_coming(open_limit: OpenLimit) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE)
    await take(limit, calls=SAVED_REQUESTS)
    went: list[int] = []

    async def call(number: int) -> None:
        await limit.wait_for_turn(tokens=1)
        went.append(number)

    await asyncio.gather(*(call(number) for number in range(10)))
    assert went == list(range(10))


async def test_a_query_does_not_wait_behind_ingestion_which_pays_for_it(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    ingestion, query = (open_limit(tokens_per_minute=TOKENS_PER_MINUTE) for _ in range(2))
    await ingestion.wait_for_turn(tokens=SAVED_TOKENS + 30_000)
    waiting = await waits(ingestion)
    before = await debt_s(redis, ingestion, "tokens_at")
    async with asyncio.timeout(5):
        await query.go_first(tokens=10_000)
    assert await debt_s(redis, ingestion, "tokens_at") > before + 5
    await give_up(waiting)


async def test_a_rush_of_queries_holds_ingestion_up_for_a_minute_at_most(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    limit = open_limit(tokens_per_minute=TOKENS_PER_MINUTE)
    await asyncio.gather(*(limit.go_first(tokens=30_000) for _ in range(10)))
    assert 50 < await debt_s(redis, limit, "tokens_at") <= 60


async def test_who_stops_waiting_has_taken_nothing(open_limit: OpenLimit, redis: RedisConnection) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE, tokens_per_minute=TOKENS_PER_MINUTE)
    await limit.wait_for_turn(tokens=SAVED_TOKENS + 60_000)
    before = await command(redis, "HGETALL", limit._key)
    first = await waits(limit, tokens=50_000)
    second = asyncio.create_task(limit.wait_for_turn(tokens=50_000))
    await give_up(first)
    await give_up(second)
    assert await command(redis, "HGETALL", limit._key) == before
    assert not limit._turn.locked()


async def test_no_cancel_is_lost_whenever_it_comes(open_limit: OpenLimit) -> None:
    limit = open_limit()
    await limit.hold(seconds=60)
    for steps in range(40):
        call = asyncio.create_task(limit.wait_for_turn(tokens=1))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        assert call in (await asyncio.wait({call}, timeout=2.0))[0], f"a cancel after {steps} steps was lost"
        assert call.cancelled()


async def test_a_retry_after_holds_the_whole_fleet_back_even_without_a_limit(open_limit: OpenLimit) -> None:
    told, other = open_limit(), open_limit()
    await take(other, calls=200)
    began = time.monotonic()
    await told.hold(seconds=0.7)
    await asyncio.gather(other.wait_for_turn(tokens=1), told.wait_for_turn(tokens=1))
    assert 0.7 <= time.monotonic() - began < 5


async def test_a_shorter_retry_after_does_not_end_a_longer_one_and_a_query_tries_all_the_same(
    open_limit: OpenLimit, redis: RedisConnection
) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE)
    await limit.hold(seconds=30)
    await limit.hold(seconds=1)
    assert await debt_s(redis, limit, "held_until") > 20
    async with asyncio.timeout(5):
        await limit.go_first(tokens=1)
    await give_up(await waits(limit))


async def test_a_provider_that_names_a_day_is_asked_again_sooner(open_limit: OpenLimit, redis: RedisConnection) -> None:
    limit = open_limit()
    await limit.hold(seconds=86_400)
    assert await debt_s(redis, limit, "held_until") <= provider_rate.MAX_HOLD_S


async def test_an_account_that_is_paid_back_leaves_no_key(open_limit: OpenLimit, redis: RedisConnection) -> None:
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE)
    await take(limit, calls=SAVED_REQUESTS)
    assert 0 < await command(redis, "PTTL", limit._key) <= 6000 + 1000


async def test_without_redis_each_process_keeps_the_rate_by_itself(open_limit: OpenLimit) -> None:
    away = f"redis://127.0.0.1:{free_ports(1)[0]}/0"
    limit = open_limit(requests_per_minute=REQUESTS_PER_MINUTE, redis_url=away)
    began = time.monotonic()
    await take(limit, calls=SAVED_REQUESTS + 50)
    assert time.monotonic() - began >= 0.49
    await limit.hold(seconds=30)
    async with asyncio.timeout(5):
        await limit.go_first(tokens=1)
    await give_up(await waits(limit))


async def test_without_redis_the_account_is_the_same_as_with_it(open_limit: OpenLimit) -> None:
    """Redis's script and the process's own account let go and refuse alike."""
    away = f"redis://127.0.0.1:{free_ports(1)[0]}/0"
    for redis_url in ("", away):
        limit = open_limit(tokens_per_minute=TOKENS_PER_MINUTE, redis_url=redis_url)
        await asyncio.gather(*(limit.go_first(tokens=40_000) for _ in range(10)))
        asked = provider_rate._Take(tokens=1, waits=True)
        assert 55 < await limit._take(asked) <= 60
        await give_up(await waits(limit))


async def test_a_process_comes_back_to_the_fleets_account_with_redis(
    open_limit: OpenLimit, redis: RedisConnection, own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "AWAY_S", 0.2)
    there = urlsplit(own_settings.stores.redis_url.get_secret_value())
    async with Proxy(str(there.hostname), there.port or 6379) as way:
        url = there._replace(netloc=f":{there.password or ''}@{way.host}:{way.port}").geturl()
        limit = open_limit(tokens_per_minute=TOKENS_PER_MINUTE, redis_url=url)
        # A debt that keeps the key there for longer than the test takes.
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
