"""Event streams: framing, pings, readers that disconnect or stall, limits, and draining."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import aiohttp
import orjson
import pytest
from aiohttp import web

from ragsvc.errors.requests import TooManyStreams, Unavailable
from ragsvc.http.sse import STREAMS, Event, StreamEnd, Streams, StreamSlot, StreamTiming, encode_event
from ragsvc.shares import Holder, holder_now
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tests.http.conftest import Client

    Serve = Callable[..., Awaitable[Client]]
    Events = Callable[[], AsyncGenerator[Event, None]]

QUICK = StreamTiming(ping_s=0.1, check_s=0.02, write_timeout_s=0.3)
DEADLINE_S = 10.0
KEY = uuid4()


class StreamApp:
    """An application with one route that streams events, and the slots of its streams."""

    def __init__(self, events: Events, *, timing: StreamTiming = QUICK) -> None:
        self.app = web.Application()
        self.streams = Streams(limit=3, limit_per_key=2, timing=timing)
        self.app[STREAMS] = self.streams
        self.app.router.add_get("/events", self._stream)
        self.slots: list[StreamSlot] = []
        self._events = events

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        with self.streams.reserve(UUID(request.query.get("key", KEY.hex))) as slot:
            self.slots.append(slot)
            return await slot.send(request, self._events(), headers={"X-Run-Id": "run_1"})


async def three_events() -> AsyncGenerator[Event, None]:
    """Yield three events."""
    for number in range(1, 4):
        yield Event("counted", {"n": number, "text": "line\nline"}, id=number)


async def forever() -> AsyncGenerator[Event, None]:
    """Yield one event and then wait forever."""
    yield Event("begun", {})
    await asyncio.Event().wait()


def test_an_event_is_one_frame_of_three_lines() -> None:
    frame = encode_event(Event("message.delta", {"text": "a\r\nb\n\nc", "ü": None}, id=7))
    assert frame == 'id: 7\nevent: message.delta\ndata: {"text":"a\\r\\nb\\n\\nc","ü":null}\n\n'.encode()


async def test_events_arrive_in_order_and_the_stream_ends(serve: Serve) -> None:
    server = StreamApp(three_events)
    response = await (await serve(server.app)).get("/events")
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Run-Id"] == "run_1"
    frames = (await response.text()).removesuffix("\n\n").split("\n\n")
    assert [orjson.loads(frame.split("\n")[2].removeprefix("data: "))["n"] for frame in frames] == [1, 2, 3]
    assert server.slots[0].end is StreamEnd.COMPLETED
    assert len(server.streams) == 0


async def test_an_event_is_sent_before_the_next_one_exists(serve: Serve) -> None:
    server = StreamApp(forever)
    response = await (await serve(server.app)).get("/events")
    async with asyncio.timeout(DEADLINE_S):
        assert await response.content.readline() == b"event: begun\n"
    response.close()


async def test_a_stream_without_events_gets_pings(serve: Serve) -> None:
    server = StreamApp(forever)
    response = await (await serve(server.app)).get("/events")
    async with asyncio.timeout(DEADLINE_S):
        received = await response.content.readuntil(b": ping\n\n: ping\n\n")
    assert received.startswith(b"event: begun\ndata: {}\n\n: ping\n\n")
    response.close()


async def test_a_reader_that_disconnects_ends_the_stream_and_closes_its_source(serve: Serve) -> None:
    closed = asyncio.Event()

    async def watched() -> AsyncGenerator[Event, None]:
        try:
            yield Event("begun", {})
            await asyncio.Event().wait()
        finally:
            closed.set()

    server = StreamApp(watched)
    response = await (await serve(server.app)).get("/events")
    await response.content.readline()
    response.close()
    await asyncio.wait_for(closed.wait(), DEADLINE_S)
    assert await until(lambda: len(server.streams) == 0, what="the end of the stream")
    assert server.slots[0].end is StreamEnd.CLIENT_LEFT


async def test_a_stalled_reader_is_disconnected(serve: Serve) -> None:
    async def flood() -> AsyncGenerator[Event, None]:
        while True:
            yield Event("much", {"text": "x" * 64_000})

    server = StreamApp(flood)
    client = await serve(server.app)
    reader, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readline()
    await until(lambda: bool(server.slots) and server.slots[0].end is StreamEnd.CLIENT_LEFT, what="the disconnect")
    assert await until(lambda: len(server.streams) == 0, what="the end of the stream")
    writer.close()


async def test_a_failing_source_closes_the_connection(serve: Serve) -> None:
    async def broken() -> AsyncGenerator[Event, None]:
        yield Event("begun", {})
        raise RuntimeError("the source broke")

    server = StreamApp(broken)
    response = await (await serve(server.app)).get("/events")
    with pytest.raises(aiohttp.ClientError):
        await response.read()
    assert server.slots[0].end is StreamEnd.FAILED
    assert len(server.streams) == 0


async def test_a_draining_server_asks_readers_to_reconnect(serve: Serve) -> None:
    server = StreamApp(forever)
    response = await (await serve(server.app)).get("/events")
    await response.content.readline()
    server.streams.close()
    async with asyncio.timeout(DEADLINE_S):
        rest = await response.read()
    assert rest.endswith(b": reconnect\n\n")
    assert server.slots[0].end is StreamEnd.DRAINING


async def test_a_draining_server_refuses_new_streams() -> None:
    streams = Streams(limit=3, limit_per_key=2)
    streams.close()
    with pytest.raises(Unavailable), streams.reserve(KEY):
        pass


async def test_the_number_of_streams_per_key_is_limited() -> None:
    streams = Streams(limit=3, limit_per_key=2)
    with streams.reserve(KEY), streams.reserve(KEY):
        with pytest.raises(TooManyStreams), streams.reserve(KEY):
            pass
        with streams.reserve(uuid4()):
            assert len(streams) == 3
    with streams.reserve(KEY):
        assert len(streams) == 1


async def test_the_number_of_streams_per_process_is_limited() -> None:
    streams = Streams(limit=2, limit_per_key=2)
    with streams.reserve(uuid4()), streams.reserve(uuid4()), pytest.raises(TooManyStreams), streams.reserve(uuid4()):
        pass
    assert len(streams) == 0


async def test_the_streams_of_one_workspace_leave_some_for_others() -> None:
    streams = Streams(limit=4, limit_per_key=2)
    before = holder_now.get()
    try:
        holder_now.set(Holder(uuid4(), KEY))
        with streams.reserve(KEY), streams.reserve(KEY), streams.reserve(uuid4()):
            # Another key of the same workspace does not help.
            with pytest.raises(TooManyStreams), streams.reserve(uuid4()):
                pass
            holder_now.set(Holder(uuid4(), KEY))
            with streams.reserve(uuid4()):
                assert len(streams) == 4
    finally:
        holder_now.set(before)


async def test_a_thousand_streams_can_be_open_at_once(serve: Serve) -> None:
    server = StreamApp(forever, timing=StreamTiming(check_s=0.2))
    server.streams = server.app[STREAMS] = Streams(limit=1000, limit_per_key=1000, timing=StreamTiming(check_s=0.2))
    client = await serve(server.app, connector=aiohttp.TCPConnector(limit=0))
    waiting: list[Awaitable[aiohttp.ClientResponse]] = [client.get("/events") for _ in range(1000)]
    responses = await asyncio.gather(*waiting)
    assert [await response.content.readline() for response in responses] == [b"event: begun\n"] * 1000
    assert len(server.streams) == 1000
    server.streams.close()
    ends = await asyncio.gather(*(response.read() for response in responses))
    assert all(end.endswith(b": reconnect\n\n") for end in ends)
    assert await until(lambda: len(server.streams) == 0, what="the end of the stream")
