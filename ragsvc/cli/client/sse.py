"""Reads server-sent events and resumes after a dropped connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ragsvc.cli.client.http import STREAM_TIMEOUT
from ragsvc.cli.exits import Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import aiohttp

    from ragsvc.cli.client.http import Client

HEADERS = {"Accept": "text/event-stream"}
# After this many consecutive connections without an event (about 12 s), the service counts as unreachable.
MAX_IDLE_CONNECTIONS = 6
BACKOFF_S = 0.1


@dataclass(frozen=True, slots=True)
class Event:
    """An event; `id` is the last id seen on the stream."""

    name: str
    data: Any
    id: str | None


class EventDecoder:
    """Decodes a byte stream into events, wherever the chunks are split (WHATWG HTML, section 9.2.6)."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, received: bytes) -> list[Event]:
        """Return the events that these bytes complete."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        return [event for line in lines if (event := self._take(line.removesuffix(b"\r").decode()))]

    def _take(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id":
                self.last_id = value
            case _:  # a comment such as `: ping`, or an unknown field
                pass
        return None

    def _dispatch(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data = "", []
        return Event(name or "message", orjson.loads("\n".join(data)), self.last_id) if data else None


async def read_events(response: aiohttp.ClientResponse, *, last_id: str | None = None) -> AsyncGenerator[Event, None]:
    """Yield the events of one connection."""
    decoder = EventDecoder()
    decoder.last_id = last_id
    async for received in response.content.iter_any():
        for event in decoder.feed(received):
            yield event


async def follow(client: Client, path: str, *, last_id: str | None = None) -> AsyncGenerator[Event, None]:
    """Yield the events of a stream, reconnecting as needed; the caller stops at the final event.

    Raises:
        Unreachable: several consecutive connections delivered nothing.
        Refused: the service refuses the stream.
    """
    idle = 0
    while True:
        headers = HEADERS if last_id is None else {**HEADERS, "Last-Event-ID": last_id}
        reason: Unreachable | None = None
        try:
            async with client.open("GET", path, headers=headers, timeout=STREAM_TIMEOUT) as response:
                async for event in read_events(response, last_id=last_id):
                    idle, last_id = 0, event.id
                    yield event
        except Unreachable as error:
            reason = error
        idle += 1
        if idle > MAX_IDLE_CONNECTIONS:
            raise reason or Unreachable(f"the stream {path} keeps ending early")
        await asyncio.sleep(BACKOFF_S * 2**idle)
