"""Server-sent events: framing, pings, slow and disconnected readers, and limits on open streams."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import orjson
import structlog
from aiohttp import web

from ragsvc.errors.requests import TooManyStreams, Unauthorized, Unavailable
from ragsvc.http.key_checks import KEY_CHECKS
from ragsvc.http.limits.admission import end_permit
from ragsvc.shares import Shares
from ragsvc.tasks import cancel_and_wait
from ragsvc.telemetry.metrics import STREAMS as STREAMS_ENDED
from ragsvc.telemetry.metrics import STREAMS_OPEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
    from uuid import UUID

    from ragsvc.http.auth import Caller

log = structlog.get_logger(__name__)

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx must not buffer events
}
PING = b": ping\n\n"
RECONNECT = b": reconnect\n\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `data` is anything that orjson can serialize."""

    name: str
    data: object
    id: int | None = None


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """Seconds without events before a ping, between connection checks, and before a stalled reader is disconnected."""

    ping_s: float = 15.0
    check_s: float = 1.0
    write_timeout_s: float = 20.0


class StreamEnd(StrEnum):
    """Why a stream ended."""

    COMPLETED = "completed"
    CLIENT_LEFT = "client_left"
    DRAINING = "draining"
    REVOKED = "revoked"
    FAILED = "failed"


def encode_event(event: Event) -> bytes:
    """Return an event in wire format; its data is one line, since JSON escapes line breaks."""
    head = b"id: %d\n" % event.id if event.id is not None else b""
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.name.encode(), orjson.dumps(event.data))


class Streams:
    """The open streams of this process."""

    def __init__(self, *, limit: int, limit_per_key: int, timing: StreamTiming | None = None) -> None:
        self.timing = timing or StreamTiming()
        self._shares = Shares("streams", limit)
        self._limit_per_key = limit_per_key
        self._open: set[StreamSlot] = set()
        self._per_key: Counter[UUID] = Counter()
        self._draining = False

    def __len__(self) -> int:
        """Return the number of open streams."""
        return len(self._open)

    @contextmanager
    def reserve(self, key_id: UUID) -> Iterator[StreamSlot]:
        """Reserve a slot for one stream of this key while the context is open.

        Raises:
            TooManyStreams: the key, its workspace or the process has reached its limit of streams.
            Unavailable: the process is draining.
        """
        if self._draining:
            raise Unavailable("This server is shutting down; send the request again.")
        share = self._shares.try_take() if self._per_key[key_id] < self._limit_per_key else None
        if share is None:
            raise TooManyStreams
        slot = StreamSlot(self.timing)
        self._open.add(slot)
        self._per_key[key_id] += 1
        STREAMS_OPEN.inc()
        try:
            yield slot
        finally:
            share.release()
            STREAMS_OPEN.dec()
            if slot.end is not None:
                STREAMS_ENDED.labels(slot.end).inc()
            self._open.discard(slot)
            self._per_key[key_id] -= 1
            if not self._per_key[key_id]:
                del self._per_key[key_id]

    def close(self) -> None:
        """Refuse new streams, and ask the readers of open ones to reconnect."""
        self._draining = True
        for slot in self._open:
            slot.drain()


STREAMS = web.AppKey("streams", Streams)


@contextmanager
def reserve_stream(request: web.Request, caller: Caller) -> Iterator[StreamSlot]:
    """Reserve a slot for a stream, before starting any work for it; raises like `Streams.reserve`."""
    with request.app[STREAMS].reserve(caller.key.id) as slot:
        end_permit(request)
        yield slot


class StreamSlot:
    """The slot of one stream; `end` is None until the stream has ended."""

    def __init__(self, timing: StreamTiming) -> None:
        self.end: StreamEnd | None = None
        self._timing = timing
        self._draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def drain(self) -> None:
        """End the stream with the comment that asks its reader to reconnect."""
        if not self._draining.done():
            self._draining.set_result(None)

    async def send(
        self,
        request: web.Request,
        events: AsyncGenerator[Event | Sequence[Event], None],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """Send events until they end, the reader disconnects or stalls, its key is revoked, or the server drains.

        Then close `events`. A sequence of events is sent in one write.

        Errors of `events` are logged and close the connection, since the status has already been sent.
        """
        response = web.StreamResponse(headers={**HEADERS, **(headers or {})})
        await response.prepare(request)
        channel = _Channel(request, response, self._timing)
        pump = asyncio.create_task(channel.pump(events))
        try:
            self.end = await self._watch(channel, pump)
        except asyncio.CancelledError:
            self.end = StreamEnd.CLIENT_LEFT if channel.is_closed else StreamEnd.DRAINING
            raise
        finally:
            await cancel_and_wait(pump)
            await events.aclose()
        if self.end is not StreamEnd.COMPLETED:
            response.force_close()
        if self.end in {StreamEnd.FAILED, StreamEnd.CLIENT_LEFT}:
            channel.abort()
        return response

    async def _watch(self, channel: _Channel, pump: asyncio.Task[None]) -> StreamEnd:
        while True:
            await asyncio.wait(
                {pump, self._draining}, timeout=self._timing.check_s, return_when=asyncio.FIRST_COMPLETED
            )
            if pump.done():
                return _end_of(pump)
            if channel.is_closed:
                return StreamEnd.CLIENT_LEFT
            if self._draining.done():
                await cancel_and_wait(pump)
                return await channel.send_comment(RECONNECT) or StreamEnd.DRAINING
            if channel.needs_ping and (end := await channel.ping()):
                return end


class _Channel:
    """One response that events are written to."""

    def __init__(self, request: web.Request, response: web.StreamResponse, timing: StreamTiming) -> None:
        self._request = request
        self._response = response
        self._timing = timing
        self._last_write = time.monotonic()
        self._writing = False

    @property
    def is_closed(self) -> bool:
        """Whether the reader has disconnected."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    @property
    def needs_ping(self) -> bool:
        """Whether nothing has been written for `ping_s`."""
        return not self._writing and time.monotonic() - self._last_write >= self._timing.ping_s

    async def pump(self, events: AsyncGenerator[Event | Sequence[Event], None]) -> None:
        """Write every event."""
        async for found in events:
            await self._require_valid_key()
            batch = (found,) if isinstance(found, Event) else found
            await self.write(b"".join(map(encode_event, batch)))

    async def write(self, frame: bytes) -> None:
        """Write whole frames.

        Raises:
            ConnectionError: the reader has disconnected, or has read nothing for `write_timeout_s`.
        """
        self._writing = True
        try:
            async with asyncio.timeout(self._timing.write_timeout_s):
                await self._response.write(frame)
        except TimeoutError:
            raise ConnectionResetError("the reader has stalled") from None
        finally:
            self._writing = False
            self._last_write = time.monotonic()

    async def ping(self) -> StreamEnd | None:
        """Write a ping. If that fails, or the reader's key is not valid any more, return how the stream ended."""
        try:
            await self._require_valid_key()
        except Unauthorized:
            return StreamEnd.REVOKED
        return await self.send_comment(PING)

    async def _require_valid_key(self) -> None:
        # Tests can stream without keys.
        if (checks := self._request.app.get(KEY_CHECKS)) is not None:
            await checks.require_valid()

    async def send_comment(self, comment: bytes) -> StreamEnd | None:
        """Write a comment. If that fails, return how the stream ended, else None."""
        try:
            await self.write(comment)
        except ConnectionError:
            return StreamEnd.CLIENT_LEFT
        return None

    def abort(self) -> None:
        """Close the connection at once and discard unsent data."""
        if self._request.transport is not None:
            self._request.transport.abort()


def _end_of(pump: asyncio.Task[None]) -> StreamEnd:
    error = pump.exception()
    if error is None:
        return StreamEnd.COMPLETED
    if isinstance(error, Unauthorized):
        return StreamEnd.REVOKED
    if isinstance(error, ConnectionError):
        return StreamEnd.CLIENT_LEFT
    log.error("stream_failed", exc_info=error)
    return StreamEnd.FAILED
