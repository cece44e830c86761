"""Whatever a server answers becomes JSON or one clear line."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ragsvc.cli.client import Refused, open_client, segment
from ragsvc.cli.failures import CommandFailed, Unreachable
from ragsvc.cli.target import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.cli.client import Client


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


async def test_a_problem_is_told_with_its_code() -> None:
    async with answering(422, problem("empty_file")) as client:
        with pytest.raises(Refused, match=r"^It cannot be\. \(empty_file\)$") as caught:
            await client.get("/v1/documents")
    assert (caught.value.status, caught.value.code, caught.value.exit_code) == (422, "empty_file", 1)


async def test_a_server_error_is_told_with_its_request() -> None:
    async with answering(500, problem("internal")) as client:
        with pytest.raises(Refused, match="request r-1"):
            await client.post("/v1/search", body={})


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_service_that_is_away_for_now_counts_as_unreachable(status: int) -> None:
    async with answering(status, b"<html>Bad gateway</html>", content_type="text/html") as client:
        with pytest.raises(Unreachable) as caught:
            await client.get("/v1/documents")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b'"text"', b"\xff"])
async def test_another_server_is_recognised(body: bytes) -> None:
    for status in (200, 404):
        async with answering(status, body) as client:
            with pytest.raises(CommandFailed, match="is RAGSVC_URL right"):
                await client.get("/v1/documents")


async def test_an_answer_without_a_body_is_an_empty_object() -> None:
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


@pytest.mark.parametrize("text", ["../keys", "a/b", "a?b=c", "a#b", "ä", " "])
async def test_an_id_stays_one_segment_of_the_path(text: str) -> None:
    seen: list[str] = []

    async def show(request: web.Request) -> web.Response:
        seen.append(request.match_info["id"])
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/v1/documents/{id}", show)
    async with TestServer(app) as server, open_client(Target(str(server.make_url("")), "a key", None)) as client:
        await client.get(f"/v1/documents/{segment(text)}")
    assert seen == [text]
