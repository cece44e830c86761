"""Readiness says what forbids serving, and what is only missed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from tests.http.conftest import Api, ApiResponse
from tests.http.support.proxy import Proxy
from tests.support.polling import until
from tests.support.scrapes import Figures
from tests.support.servers.databases import owner_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings
    from tests.http.conftest import ClientMaker

NOBODY = "127.0.0.1:9"


@pytest.fixture
async def postgres_proxy(settings: Settings) -> AsyncIterator[Proxy]:
    """A way to Postgres that can be cut."""
    address = urlsplit(settings.stores.database_url.get_secret_value())
    assert address.hostname is not None
    assert address.port is not None
    async with Proxy(address.hostname, address.port) as proxy:
        yield proxy


async def test_a_process_that_answers_is_healthy(stranger: Api) -> None:
    answer = await stranger.get("/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


async def test_a_whole_service_is_ready(stranger: Api) -> None:
    answer = await stranger.get("/readyz")
    assert (answer.status, answer.json) == (200, {"status": "ready", "blockers": [], "degraded": []})


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"redis_url": SecretStr(f"redis://{NOBODY}/0")}, ["redis"]),
        ({"s3_endpoint_url": f"http://{NOBODY}"}, ["s3"]),
        ({"redis_url": SecretStr(f"redis://{NOBODY}/0"), "s3_endpoint_url": f"http://{NOBODY}"}, ["redis", "s3"]),
    ],
)
async def test_a_store_that_only_helps_is_missed_but_does_not_forbid_serving(
    make_client: ClientMaker, change: dict[str, object], missed: list[str]
) -> None:
    answer = await Api(await make_client(**change), None).get("/readyz")
    assert (answer.status, answer.json["degraded"]) == (200, missed)


async def test_an_older_schema_forbids_serving(make_client: ClientMaker, settings: Settings) -> None:
    stranger = Api(await make_client(), None)
    async with owner_of(settings) as conn:
        last = await conn.fetchrow(
            "DELETE FROM schema_migrations WHERE name = (SELECT max(name) FROM schema_migrations) RETURNING *"
        )
        assert last is not None
        try:
            answer = await stranger.get("/readyz")
        finally:
            await conn.execute("INSERT INTO schema_migrations VALUES ($1, $2, $3)", *last)
    assert (answer.status, answer.json["blockers"]) == (503, ["schema"])


async def test_without_postgres_the_process_is_not_ready_and_comes_back(
    settings: Settings, make_client: ClientMaker, postgres_proxy: Proxy
) -> None:
    address = urlsplit(settings.stores.database_url.get_secret_value())
    netloc = f"{address.username}:{address.password}@{postgres_proxy.host}:{postgres_proxy.port}"
    through_proxy = SecretStr(urlunsplit(address._replace(netloc=netloc)))
    stranger = Api(await make_client(database_url=through_proxy), None)

    async def readiness(status: int) -> ApiResponse | None:
        answer = await stranger.get("/readyz")
        return answer if answer.status == status else None

    await postgres_proxy.cut()
    answer = await until(lambda: readiness(503), what="the missing Postgres")
    assert answer is not None
    assert answer.json["blockers"] == ["postgres"]
    figures = Figures((await stranger.get("/metrics")).raw.decode())
    assert figures.total("ragsvc_ready") == figures.total("ragsvc_dependency_up", dependency="postgres") == 0
    refused = await Api(stranger.client, "rag_some_key").get("/v1/workspace")
    assert refused.is_problem(503, "unavailable")
    assert refused.headers["Retry-After"]
    await postgres_proxy.mend()
    assert await until(lambda: readiness(200), what="Postgres's return")


async def test_many_who_ask_at_once_get_one_look(stranger: Api) -> None:
    responses = await asyncio.gather(*(stranger.get("/readyz") for _ in range(50)))
    assert {answer.status for answer in responses} == {200}
