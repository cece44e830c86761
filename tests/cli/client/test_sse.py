"""Events are decoded however they are split, and a dropped stream is resumed."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from ragsvc.cli.client import sse
from ragsvc.cli.client.http import open_client
from ragsvc.cli.client.sse import Event, EventDecoder, follow
from ragsvc.cli.client.target import Target
from ragsvc.cli.exits import Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

STREAM = (
    b": ping\n\n"
    b'id: 1\nevent: message.delta\ndata: {"text":"na\xc3\xafve"}\n\n'
    b'event: message.delta\r\ndata: {"text":\r\ndata: "two"}\r\n\r\n'
    b"id: 3\ndata: 7\n\n"
    b"event: nothing\n\n"
)
EVENTS = [
    Event("message.delta", {"text": "naïve"}, "1"),
    Event("message.delta", {"text": "two"}, "1"),
    Event("message", 7, "3"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_how_the_bytes_are_split(cuts: list[int]) -> None:
    decoder = EventDecoder()
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert [event for piece in pieces for event in decoder.feed(piece)] == EVENTS


def test_a_truncated_event_is_dropped() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n") == [Event("message", 1, "1")]


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Target]:
    app = web.Application()
    app.router.add_get("/events", handler)
    async with TestServer(app) as server:
        yield Target(str(server.make_url("")).rstrip("/"), "a key", None)


async def test_a_dropped_stream_resumes_after_the_last_event() -> None:
    seen: list[str | None] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        last_id = request.headers.get("Last-Event-ID")
        seen.append(last_id)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        first = int(last_id or 0) + 1
        for number in range(first, first + 2):
            await response.write(b"id: %d\ndata: %d\n\n" % (number, number))
        await response.write(b"id: 99\ndata: never comple")
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(stream) as target, open_client(target) as client, aclosing(follow(client, "/events")) as events:
        got = []
        async for event in events:
            got.append(event.data)
            if event.data == 6:
                break
    assert got == [1, 2, 3, 4, 5, 6]
    assert seen == [None, "2", "4"]


async def test_a_stream_that_repeatedly_delivers_nothing_counts_as_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "BACKOFF_S", 0.001)
    connections = 0

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal connections
        connections += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": reconnect\n\n")
        return response

    async with serving(stream) as target, open_client(target) as client, aclosing(follow(client, "/events")) as events:
        with pytest.raises(Unreachable, match="keeps ending early"):
            await anext(events)
    assert connections == sse.MAX_IDLE_CONNECTIONS + 1
