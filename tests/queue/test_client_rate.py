"""The rate limit of a key: shared by processes, local while Redis is unavailable, and rarely waiting for Redis."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from ragsvc.devstack.ports import free_ports
from ragsvc.queue import client_rate, scripts
from ragsvc.queue.client_rate import DRAW, ClientRates, Rate
from ragsvc.queue.connection import open_redis
from tests.http.support.proxy import Proxy
from tests.support.polling import until
from tests.support.servers.redis import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ragsvc.queue.connection import RedisConnection
    from ragsvc.settings.settings import Settings

    OpenRates = Callable[..., ClientRates]

# One token per 1000 s, so that none becomes available during a test.
SLOW_RPS = 0.001
BURST = 40
COST_US = 1_000_000_000


@pytest.fixture
async def open_rates(own_settings: Settings) -> AsyncIterator[OpenRates]:
    """Opens rate limiters that share only Redis, as processes do."""
    async with AsyncExitStack() as stack:

        def open_one(*, rps: float = SLOW_RPS, burst: int = BURST, redis_url: str = "") -> ClientRates:
            changes: dict[str, Any] = {"rate_limit_rps": rps, "rate_limit_burst": burst}
            if redis_url:
                changes["redis_url"] = SecretStr(redis_url)
            settings = own_settings.changed(changes)
            connection = open_redis(settings)
            stack.push_async_callback(connection.aclose)
            rates = ClientRates(connection, settings)
            stack.push_async_callback(rates.close)
            return rates

        yield open_one


async def take(rates: ClientRates, key_id: uuid.UUID, *, times: int) -> list[Rate]:
    """Send this many requests concurrently."""
    return await asyncio.gather(*(rates.take(key_id) for _ in range(times)))


def count_granted(taken: list[Rate]) -> int:
    return sum(rate.wait_s == 0 for rate in taken)


@pytest.mark.parametrize("burst", [1, 2, 3, 10, BURST])
async def test_an_idle_key_is_granted_exactly_its_burst(open_rates: OpenRates, burst: int) -> None:
    rates, key_id = open_rates(burst=burst), uuid.uuid4()
    taken = await take(rates, key_id, times=burst // 2)
    for _ in range(burst):
        taken.append(await rates.take(key_id))
    taken += await take(rates, key_id, times=burst)
    assert count_granted(taken) == burst
    assert all(rate.limit == burst for rate in taken)
    refused = await rates.take(key_id)
    assert (refused.remaining, round(refused.full_in_s, -3), round(refused.wait_s, -2)) == (0, burst * 1000, 1000)


async def test_two_processes_share_the_rate(open_rates: OpenRates) -> None:
    one, other, key_id = open_rates(), open_rates(), uuid.uuid4()
    taken = await asyncio.gather(*(take(rates, key_id, times=10) for rates in (one, other) * 4))
    granted = sum(count_granted(part) for part in taken)
    # Each process can temporarily owe 1/20 of the bucket.
    assert BURST <= granted <= BURST + 2 * (BURST // client_rate.SHARE)
    await until(lambda: not (one._settling or other._settling))
    assert count_granted(await take(open_rates(), key_id, times=20)) <= BURST // client_rate.SHARE


async def test_each_key_has_its_own_rate(open_rates: OpenRates) -> None:
    rates = open_rates(burst=3)
    await take(rates, uuid.uuid4(), times=10)
    assert count_granted(await take(rates, uuid.uuid4(), times=10)) == 3


async def test_a_refused_key_is_granted_a_token_after_the_reported_wait(open_rates: OpenRates) -> None:
    rates, key_id = open_rates(rps=5, burst=2), uuid.uuid4()
    await take(rates, key_id, times=2)
    refused_at = time.monotonic()
    wait_s = (await rates.take(key_id)).wait_s
    assert 0 < wait_s <= 0.2

    async def is_granted() -> bool:
        return (await rates.take(key_id)).wait_s == 0

    await until(is_granted)
    assert time.monotonic() - refused_at >= wait_s - 0.001


async def test_an_idle_key_does_not_wait_for_redis(open_rates: OpenRates) -> None:
    # A server that accepts connections and never replies.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rates = open_rates(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        rate = await rates.take(uuid.uuid4())
        assert (rate.remaining, rate.wait_s) == (BURST - 1, 0)
        assert rates._settling, "the token was not charged"
        await rates.close()


async def test_concurrent_requests_share_calls_to_redis(open_rates: OpenRates, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, key_id = open_rates(burst=100), uuid.uuid4()
    while (await rates.take(key_id)).remaining > 50:
        pass
    await until(lambda: not rates._settling)
    run, calls = rates._script.run, 0

    async def run_and_count(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return await run(*arguments)

    monkeypatch.setattr(rates._script, "run", run_and_count)
    assert count_granted(await take(rates, key_id, times=80)) == 50
    assert calls <= 3
    # Refused requests make no further call.
    assert count_granted(await take(rates, key_id, times=80)) == 0
    assert calls <= 3


async def test_without_redis_each_process_limits_the_rate_alone(open_rates: OpenRates) -> None:
    away = f"redis://127.0.0.1:{free_ports(1)[0]}/0"
    key_id = uuid.uuid4()
    for rates in (open_rates(redis_url=away), open_rates(redis_url=away)):
        assert count_granted(await take(rates, key_id, times=2 * BURST)) == BURST


async def test_a_process_uses_the_shared_bucket_again_when_redis_is_back(
    open_rates: OpenRates, redis: RedisConnection, own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "AWAY_S", 0.1)
    there = urlsplit(own_settings.stores.redis_url.get_secret_value())
    async with Proxy(str(there.hostname), there.port or 6379) as way:
        url = there._replace(netloc=f":{there.password or ''}@{way.host}:{way.port}").geturl()
        rates, key_id = open_rates(redis_url=url), uuid.uuid4()
        await way.cut()
        await rates.take(key_id)
        await until(lambda: not rates._settling)
        assert not await command(redis, "EXISTS", rates._prefix + key_id.hex)
        await way.mend()

        async def is_charged() -> bool:
            await rates.take(key_id)
            return bool(await command(redis, "EXISTS", rates._prefix + key_id.hex))

        await until(is_charged)


async def test_the_key_of_a_full_bucket_expires(open_rates: OpenRates, redis: RedisConnection) -> None:
    rates, key_id = open_rates(rps=10, burst=20), uuid.uuid4()
    await rates.take(key_id)
    await until(lambda: not rates._settling)
    assert await command(redis, "PTTL", rates._prefix + key_id.hex) <= 101


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(burst=st.integers(1, 50), draws=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=8))
async def test_a_bucket_grants_the_tokens_it_has_and_records_those_owed(
    redis: RedisConnection, burst: int, draws: list[tuple[int, int]]
) -> None:
    key, taken = f"test-{uuid.uuid4().hex}", 0
    for owed, wanted in draws:
        granted, full_in_us = await command(redis, "EVAL", DRAW, 1, key, COST_US, burst * COST_US, owed, wanted)
        taken += owed
        assert granted == max(0, min(wanted, burst - taken))
        taken += granted
        # Some time has passed since the first draw.
        assert max(0, taken * COST_US - 60_000_000) <= full_in_us <= taken * COST_US
    await command(redis, "DEL", key)


async def test_the_number_of_cached_buckets_is_bounded(open_rates: OpenRates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_rate, "MAX_KEYS", 10)
    rates = open_rates()
    for _ in range(30):
        await rates.take(uuid.uuid4())
    assert len(rates._buckets) == 10
