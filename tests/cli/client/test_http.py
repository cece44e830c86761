"""Every server response becomes JSON or a one-line error."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ragsvc.cli.client.documents import send_file
from ragsvc.cli.client.http import Refused, open_client, segment
from ragsvc.cli.client.target import Target
from ragsvc.cli.exits import CommandFailed, Unreachable
from tests.http.support.processes import serving
from tests.support.remote import Remote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ragsvc.cli.client.http import Client
    from ragsvc.settings.settings import Settings


@asynccontextmanager
async def answering(status: int, body: bytes = b"", *, content_type: str = "application/json") -> AsyncIterator[Client]:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer a key"
        return web.Response(status=status, body=body, content_type=content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server, open_client(Target(str(server.make_url("")), "a key", None)) as client:
        yield client


def problem(code: str) -> bytes:
    return orjson.dumps({"detail": "It cannot be.", "code": code, "request_id": "r-1"})


async def test_a_problem_is_shown_with_its_code() -> None:
    async with answering(422, problem("empty_file")) as client:
        with pytest.raises(Refused, match=r"^It cannot be\. \(empty_file\)$") as caught:
            await client.get("/v1/documents")
    assert (caught.value.status, caught.value.code, caught.value.exit_code) == (422, "empty_file", 1)


async def test_a_server_error_is_shown_with_its_request_id() -> None:
    async with answering(500, problem("internal")) as client:
        with pytest.raises(Refused, match="request r-1"):
            await client.post("/v1/search", body={})


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_temporarily_unavailable_service_counts_as_unreachable(status: int) -> None:
    async with answering(status, b"<html>Bad gateway</html>", content_type="text/html") as client:
        with pytest.raises(Unreachable) as caught:
            await client.get("/v1/documents")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b'"text"', b"\xff"])
async def test_another_server_is_recognised(body: bytes) -> None:
    for status in (200, 404):
        async with answering(status, body) as client:
            with pytest.raises(CommandFailed, match="is RAGSVC_URL correct"):
                await client.get("/v1/documents")


async def test_a_response_without_a_body_is_an_empty_object() -> None:
    async with answering(204) as client:
        assert await client.delete("/v1/files/file_1") == {}


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    async with answering(302) as client:
        with pytest.raises(CommandFailed):
            await client.get("/v1/documents")


async def test_a_server_that_hangs_up_is_unreachable() -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    app = web.Application()
    app.router.add_get("/v1/documents", hang_up)
    async with TestServer(app) as server, open_client(Target(str(server.make_url("")), "a key", None)) as client:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await client.get("/v1/documents")


@asynccontextmanager
async def refusing(times: int, *, retry_after: str | None) -> AsyncIterator[tuple[Client, list[bytes]]]:
    """Yield a client of a service that refuses a number of requests, and the bodies that it received."""
    bodies: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        if len(bodies) > times:
            return web.json_response({})
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.Response(status=429, body=problem("rate_limited"), headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server, open_client(Target(str(server.make_url("")), "a key", None)) as client:
        yield client, bodies


@pytest.mark.parametrize("kind", ["json", "bytes", "form"])
async def test_a_short_retry_after_is_waited_out_and_the_request_repeated(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("text of the file")
    async with refusing(2, retry_after="0") as (client, bodies):
        match kind:
            case "json":
                await client.post("/v1/search", body={"query": "text of the file"})
            case "bytes":
                await client.put("/v1/uploads/upload_1/parts/1", b"text of the file", headers={})
            case _:
                await send_file(client, path, collection_id=None, attributes=None, on_sent=lambda _sent: None)
    assert len(bodies) == 3
    assert all(b"text of the file" in body for body in bodies)


@pytest.mark.parametrize("retry_after", [None, "3600", "Fri, 27 Nov 2026 10:00:00 GMT"])
async def test_a_missing_or_long_retry_after_is_not_waited_out(retry_after: str | None) -> None:
    async with refusing(9, retry_after=retry_after) as (client, bodies):
        with pytest.raises(Refused, match="rate_limited"):
            await client.get("/v1/documents")
    assert len(bodies) == 1


async def test_requests_over_the_rate_limit_are_slowed_down(settings: Settings) -> None:
    own = settings.changed({"rate_limit_rps": 20.0, "rate_limit_burst": 5})
    async with serving(own) as api, aiohttp.ClientSession() as http:
        remote = await Remote.make(http, await api.started(), own)
        async with open_client(Target(remote.url, remote.key, None)) as client:
            found = await asyncio.gather(*(client.get("/v1/workspace") for _ in range(15)))
        assert {workspace["id"] for workspace in found} == {remote.workspace["id"]}
        async with http.get(f"{remote.url}/metrics") as response:
            assert 'ragsvc_requests_refused_total{code="rate_limited"}' in await response.text()


@pytest.mark.parametrize("text", ["../keys", "a/b", "a?b=c", "a#b", "ä", " "])
async def test_an_id_is_quoted_as_one_path_segment(text: str) -> None:
    seen: list[str] = []

    async def show(request: web.Request) -> web.Response:
        seen.append(request.match_info["id"])
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/v1/documents/{id}", show)
    async with TestServer(app) as server, open_client(Target(str(server.make_url("")), "a key", None)) as client:
        await client.get(f"/v1/documents/{segment(text)}")
    assert seen == [text]
