"""Chat for tests: asks questions and reads event streams over HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse

    from tests.http.conftest import Api

DEADLINE_S = 15.0


class Stream:
    """Reads one event stream."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[int, str, dict[str, Any]] | None:
        """Return the next event's number, name and data; None at the end."""
        event: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE_S):
            async for line in self.response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name in {"id", "event", "data"}:
                    event[name] = value
                if name == "data":
                    return int(event["id"]), event["event"], orjson.loads(value)
        return None

    async def rest(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Return the remaining events."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def ask(api: Api, session: dict[str, Any], **body: object) -> AsyncIterator[Stream]:
    """Ask a question and open its event stream."""
    path = f"/v1/chat/sessions/{session['id']}/messages"
    question = {"content": "What do kettles boil?", **body}
    async with api.client.post(path, json=question, headers=api.headers) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)


@asynccontextmanager
async def follow(api: Api, run_id: str, *, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    """Open a run's event stream."""
    path = f"/v1/chat/runs/{run_id}/events{query}"
    async with api.client.get(path, headers={**api.headers, **headers}) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)
