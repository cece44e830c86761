"""A document's event stream: its current state, then every change until a final status."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from ragsvc.db import documents
from ragsvc.domain.documents import Stage
from ragsvc.http.contract.ids import parse_id
from ragsvc.http.sse import STREAMS
from tests.http.conftest import make_tenant, operator_of
from tests.http.support.documents import finish_document, show_failure, show_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse

    from ragsvc.resources import Resources
    from tests.http.conftest import ClientMaker, Tenant

DEADLINE_S = 15.0


class Follower:
    """Reads one document's event stream."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any] | None:
        """Return the next event's document; None at the end."""
        async with asyncio.timeout(DEADLINE_S):
            async for line in self.response.content:
                if line.startswith(b"event: "):
                    assert line == b"event: document.updated\n"
                if line.startswith(b"data: "):
                    document: dict[str, Any] = orjson.loads(line.removeprefix(b"data: "))
                    return document
        return None


@pytest.fixture
async def document(tenant: Tenant) -> dict[str, Any]:
    """A document that was just accepted."""
    return await tenant.upload()


@pytest.fixture
async def follower(tenant: Tenant, document: dict[str, Any]) -> AsyncIterator[Follower]:
    """A reader of the document's event stream."""
    path = f"/v1/documents/{document['id']}/events"
    async with tenant.api.client.get(path, headers=tenant.api.headers) as response:
        assert response.status == 200
        yield Follower(response)


async def test_a_document_is_followed_until_it_is_ready(
    tenant: Tenant, resources: Resources, document: dict[str, Any], follower: Follower
) -> None:
    assert await follower.next() == document
    document_id = parse_id("doc", document["id"])
    await show_stage(resources, tenant.uuid, document_id, Stage.PARSING)
    processing = await follower.next()
    assert processing is not None
    assert (processing["status"], processing["stage"]) == ("processing", "parsing")
    await finish_document(resources, tenant.uuid, document_id)
    done = await follower.next()
    assert done is not None
    assert (done["status"], done["chunk_count"], done["version"]) == ("ready", 2, 1)
    assert await follower.next() is None


async def test_a_failure_ends_the_stream(
    tenant: Tenant, resources: Resources, document: dict[str, Any], follower: Follower
) -> None:
    await follower.next()
    await show_failure(resources, tenant.uuid, parse_id("doc", document["id"]))
    failed = await follower.next()
    assert failed is not None
    assert failed["error"]["code"] == "encrypted"
    assert await follower.next() is None


async def test_a_deletion_ends_the_stream(tenant: Tenant, document: dict[str, Any], follower: Follower) -> None:
    await follower.next()
    await tenant.api.delete(f"/v1/documents/{document['id']}")
    deleting = await follower.next()
    assert deleting is not None
    assert deleting["status"] == "deleting"
    assert await follower.next() is None


async def test_a_deletion_that_finishes_between_two_polls_ends_the_stream(
    tenant: Tenant, resources: Resources, document: dict[str, Any], follower: Follower
) -> None:
    await follower.next()
    async with resources.pool.acquire() as conn:
        await documents.delete_documents(conn, tenant.uuid, [parse_id("doc", document["id"])])
    gone = await follower.next()
    assert gone is not None
    assert gone["status"] == "deleting"
    assert await follower.next() is None


async def test_a_ready_document_is_sent_once(tenant: Tenant, ready: dict[str, Any]) -> None:
    response = await tenant.api.get(f"/v1/documents/{ready['id']}/events")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["X-Request-Id"]
    assert response.raw == b"event: document.updated\ndata: " + orjson.dumps(ready) + b"\n\n"


async def test_a_stream_does_not_support_head(tenant: Tenant, document: dict[str, Any]) -> None:
    response = await tenant.api.call("HEAD", f"/v1/documents/{document['id']}/events")
    assert response.status == 405


async def test_streams_over_a_keys_limit_are_refused(make_client: ClientMaker) -> None:
    client = await make_client(max_streams_per_key=1)
    tenant = await make_tenant(client, operator_of(client), "acme")
    document = await tenant.upload()
    path = f"/v1/documents/{document['id']}/events"
    async with client.get(path, headers=tenant.api.headers) as first:
        assert first.status == 200
        refused = await tenant.api.get(path)
        assert refused.is_problem(429, "too_many_streams")
        assert int(refused.headers["Retry-After"]) > 0
        client.app[STREAMS].close()
        assert (await first.read()).endswith(b": reconnect\n\n")
