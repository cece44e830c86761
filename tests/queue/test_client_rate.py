"""The rate of a key: kept by many processes together, by each alone while Redis is away, and seldom waited for."""

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
from hypothesis import settings as trying
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

# A token in 1000 s: none comes back while a test looks.
NO_RPS = 0.001
BURST = 40
COST_US = 1_000_000_000


@pytest.fixture
async def open_rates(own_settings: Settings) -> AsyncIterator[OpenRates]:
    """Opens rates that share nothing but Redis, as processes do."""
    async with AsyncExitStack() as stack:

        def open_one(*, rps: float = NO_RPS, burst: int = BURST, redis_url: str = "") -> ClientRates:
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


async def ask(rates: ClientRates, key_id: uuid.UUID, *, times: int) -> list[Rate]:
    """Ask so many times at once."""
    return await asyncio.gather(*(rates.take(key_id) for _ in range(times)))


def count_granted(told: list[Rate]) -> int:
    return sum(rate.wait_s == 0 for rate in told)


@pytest.mark.parametrize("burst", [1, 2, 3, 10, BURST])
async def test_an_idle_key_may_ask_as_often_as_its_burst_and_not_once_more(open_rates: OpenRates, burst: int) -> None:
    rates, key_id = open_rates(burst=burst), uuid.uuid4()
    told = await ask(rates, key_id, times=burst // 2)
    for _ in range(burst):
        told.append(await rates.take(key_id))
    told += await ask(rates, key_id, times=burst)
    assert count_granted(told) == burst
    assert all(rate.limit == burst for rate in told)
    refused = await rates.take(key_id)
    assert (refused.remaining, round(refused.full_in_s, -3), round(refused.wait_s, -2)) == (0, burst * 1000, 1000)


async def test_two_processes_together_keep_the_rate(open_rates: OpenRates) -> None:
    one, other, key_id = open_rates(), open_rates(), uuid.uuid4()
    told = await asyncio.gather(*(ask(rates, key_id, times=10) for rates in (one, other) * 4))
    granted = sum(count_granted(part) for part in told)
    # Each may owe a twentieth of the bucket for a moment.
    assert BURST <= granted <= BURST + 2 * (BURST // client_rate.SHARE)
    await until(lambda: not (one._settling or other._settling))
    assert count_granted(await ask(open_rates(), key_id, times=20)) <= BURST // client_rate.SHARE


async def test_keys_have_rates_of_their_own(open_rates: OpenRates) -> None:
    rates = open_rates(burst=3)
    await ask(rates, uuid.uuid4(), times=10)
    assert count_granted(await ask(rates, uuid.uuid4(), times=10)) == 3


async def test_tokens_come_back_when_the_refusal_says(open_rates: OpenRates) -> None:
    rates, key_id = open_rates(rps=5, burst=2), uuid.uuid4()
    await ask(rates, key_id, times=2)
    refused_at = time.monotonic()
    wait_s = (await rates.take(key_id)).wait_s
    assert 0 < wait_s <= 0.2

    async def is_granted() -> bool:
        return (await rates.take(key_id)).wait_s == 0

    await until(is_granted)
    assert time.monotonic() - refused_at >= wait_s - 0.001


async def test_an_idle_key_does_not_wait_for_redis(open_rates: OpenRates) -> None:
    # It takes connections and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rates = open_rates(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        rate = await rates.take(uuid.uuid4())
        assert (rate.remaining, rate.wait_s) == (BURST - 1, 0)
        assert rates._settling, "it is charged all the same"
        await rates.close()


async def test_those_who_ask_at_once_ask_redis_once(open_rates: OpenRates, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, key_id = open_rates(burst=100), uuid.uuid4()
    while (await rates.take(key_id)).remaining > 50:
        pass
    await until(lambda: not rates._settling)
    run, calls = rates._script.run, 0

    async def counting(*words: Any) -> Any:
        nonlocal calls
        calls += 1
        return await run(*words)

    monkeypatch.setattr(rates._script, "run", counting)
    assert count_granted(await ask(rates, key_id, times=80)) == 50
    assert calls <= 3
    # And none who is refused.
    assert count_granted(await ask(rates, key_id, times=80)) == 0
    assert calls <= 3


async def test_without_redis_each_process_keeps_the_rate_by_itself(open_rates: OpenRates) -> None:
    away = f"redis://127.0.0.1:{free_ports(1)[0]}/0"
    key_id = uuid.uuid4()
    for rates in (open_rates(redis_url=away), open_rates(redis_url=away)):
        assert count_granted(await ask(rates, key_id, times=2 * BURST)) == BURST


async def test_a_process_comes_back_to_the_common_account_with_redis(
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


async def test_a_full_bucket_leaves_no_key(open_rates: OpenRates, redis: RedisConnection) -> None:
    rates, key_id = open_rates(rps=10, burst=20), uuid.uuid4()
    await rates.take(key_id)
    await until(lambda: not rates._settling)
    assert await command(redis, "PTTL", rates._prefix + key_id.hex) <= 101


@trying(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(burst=st.integers(1, 50), draws=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=8))
async def test_a_bucket_gives_what_it_has_and_remembers_what_is_owed(
    redis: RedisConnection, burst: int, draws: list[tuple[int, int]]
) -> None:
    key, taken = f"test-{uuid.uuid4().hex}", 0
    for owed, wanted in draws:
        granted, full_in_us = await command(redis, "EVAL", DRAW, 1, key, COST_US, burst * COST_US, owed, wanted)
        taken += owed
        assert granted == max(0, min(wanted, burst - taken))
        taken += granted
        # Some time went by since the first draw.
        assert max(0, taken * COST_US - 60_000_000) <= full_in_us <= taken * COST_US
    await command(redis, "DEL", key)


async def test_what_a_process_knows_of_keys_is_bounded(open_rates: OpenRates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_rate, "MAX_KEYS", 10)
    rates = open_rates()
    for _ in range(30):
        await rates.take(uuid.uuid4())
    assert len(rates._buckets) == 10
