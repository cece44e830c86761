"""Readiness distinguishes failures that prevent serving from unavailable stores that only degrade it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from ragsvc.db import workers
from ragsvc.db.migrations import migrate
from ragsvc.domain.ids import format_id, new_id
from ragsvc.domain.jobs import Queue
from ragsvc.http.state import RESOURCES
from tests.http.conftest import Api, ApiResponse, make_key, operator_of
from tests.http.support.proxy import Proxy
from tests.support.documents.library import Library
from tests.support.polling import until
from tests.support.scrapes import Figures
from tests.support.servers.databases import owner_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import ClientMaker

CLOSED_PORT = "127.0.0.1:9"
WORKER_ID = new_id()


@pytest.fixture
async def postgres_proxy(settings: Settings) -> AsyncIterator[Proxy]:
    """A proxy to Postgres whose connections can be cut."""
    address = urlsplit(settings.stores.database_url.get_secret_value())
    assert address.hostname is not None
    assert address.port is not None
    async with Proxy(address.hostname, address.port) as proxy:
        yield proxy


async def test_a_running_process_is_healthy(stranger: Api) -> None:
    response = await stranger.get("/healthz")
    assert (response.status, response.json) == (200, {"status": "ok"})


async def test_a_process_with_all_stores_is_ready(stranger: Api) -> None:
    response = await stranger.get("/readyz")
    # No worker runs in these tests.
    missed = ["ingestion_workers", "deletion_workers"]
    ready = {"status": "ready", "blockers": [], "degraded": missed, "notices": []}
    assert (response.status, response.json) == (200, ready)


async def test_a_queue_with_a_worker_is_not_degraded(make_client: ClientMaker) -> None:
    client = await make_client()
    async with client.app[RESOURCES].pool.acquire() as conn:
        await workers.upsert_worker(
            conn, WORKER_ID, queue=Queue.DELETION, name="host:1", version="1", concurrency=1, look_age_s=0
        )
    try:
        response = await Api(client, None).get("/readyz")
        assert response.json["degraded"] == ["ingestion_workers"]
        shown = (await operator_of(client).get("/v1/admin/workers")).json["data"]
        assert [(one["worker"], one["queue"], one["version"], one["alive"]) for one in shown] == [
            ("host:1", "deletion", "1", True)
        ]
        queues = {queue["queue"]: queue for queue in (await operator_of(client).get("/v1/admin/queues")).json["data"]}
        assert (queues["deletion"]["workers"], queues["ingestion"]["workers"]) == (1, 0)
        metrics = (await Api(client, None).get("/metrics")).raw.decode()
        assert 'ragsvc_workers{queue="deletion"} 1.0' in metrics
    finally:
        async with client.app[RESOURCES].pool.acquire() as conn:
            await workers.delete_worker(conn, WORKER_ID)


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"redis_url": SecretStr(f"redis://{CLOSED_PORT}/0")}, ["redis"]),
        ({"s3_endpoint_url": f"http://{CLOSED_PORT}"}, ["s3"]),
        (
            {"redis_url": SecretStr(f"redis://{CLOSED_PORT}/0"), "s3_endpoint_url": f"http://{CLOSED_PORT}"},
            ["redis", "s3"],
        ),
    ],
)
async def test_without_redis_or_s3_the_process_is_degraded_but_ready(
    make_client: ClientMaker, change: dict[str, object], missed: list[str]
) -> None:
    response = await Api(await make_client(**change), None).get("/readyz")
    assert (response.status, response.json["degraded"]) == (200, [*missed, "ingestion_workers", "deletion_workers"])


async def test_documents_in_another_embedding_space_are_reported(
    make_client: ClientMaker, resources: Resources, workspace: Workspace, settings: Settings
) -> None:
    document_id = await Library(resources, workspace.id).add("Descale the kettle every three months.")
    changed = {"embedding_revision": 2}
    await migrate(settings.changed(changed), accept_new_space=True)
    client = await make_client(**changed)
    response = await Api(client, None).get("/readyz")
    assert response.status == 200
    assert "embedding_space" in response.json["degraded"]
    # Other tests have documents in the same database.
    assert " not in the current embedding space" in response.json["notices"][0]
    key = await make_key(operator_of(client), format_id("ws", workspace.id))
    shown = (await Api(client, key).get(f"/v1/documents/{format_id('doc', document_id)}")).json
    space = {"model": "all-MiniLM-L6-v2", "dimensions": 384, "revision": 1}
    assert shown["embedding_space"] == space | {"current": False}


async def test_with_an_older_schema_the_process_is_not_ready(make_client: ClientMaker, settings: Settings) -> None:
    stranger = Api(await make_client(), None)
    async with owner_of(settings) as conn:
        last = await conn.fetchrow(
            "DELETE FROM schema_migrations WHERE name = (SELECT max(name) FROM schema_migrations) RETURNING *"
        )
        assert last is not None
        try:
            response = await stranger.get("/readyz")
        finally:
            await conn.execute("INSERT INTO schema_migrations VALUES ($1, $2, $3)", *last)
    assert (response.status, response.json["blockers"]) == (503, ["schema"])


async def test_the_process_is_not_ready_until_postgres_returns(
    settings: Settings, make_client: ClientMaker, postgres_proxy: Proxy
) -> None:
    address = urlsplit(settings.stores.database_url.get_secret_value())
    netloc = f"{address.username}:{address.password}@{postgres_proxy.host}:{postgres_proxy.port}"
    through_proxy = SecretStr(urlunsplit(address._replace(netloc=netloc)))
    stranger = Api(await make_client(database_url=through_proxy), None)

    async def readiness(status: int) -> ApiResponse | None:
        response = await stranger.get("/readyz")
        return response if response.status == status else None

    await postgres_proxy.cut()
    response = await until(lambda: readiness(503), what="the loss of Postgres")
    assert response is not None
    assert response.json["blockers"] == ["postgres"]
    figures = Figures((await stranger.get("/metrics")).raw.decode())
    assert figures.total("ragsvc_ready") == figures.total("ragsvc_dependency_up", dependency="postgres") == 0
    refused = await Api(stranger.client, "rag_some_key").get("/v1/workspace")
    assert refused.is_problem(503, "unavailable")
    assert refused.headers["Retry-After"]
    await postgres_proxy.mend()
    assert await until(lambda: readiness(200), what="the return of Postgres")


async def test_many_concurrent_readiness_checks_succeed(stranger: Api) -> None:
    responses = await asyncio.gather(*(stranger.get("/readyz") for _ in range(50)))
    assert {response.status for response in responses} == {200}
