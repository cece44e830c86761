"""A constant load of questions, uploads in one request and in parts, deletions and searches."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.deploy.client import Client

# Clients of each kind, and their pause between two operations.
CLIENTS = 2
PAUSE_S = 0.2
DELETED_OF = 3


class Load:
    """What clients do repeatedly; failures are recorded in the client's tally."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = count(1)
        self._over = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Apply the load until the `with` block ends; operations that have started are finished."""
        async with asyncio.TaskGroup() as group:
            for work in (self._chat, self._upload, self._search) * CLIENTS:
                group.create_task(self._repeat(work))
            try:
                yield
            finally:
                self._over.set()

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        while not self._over.is_set():
            try:
                await work()
            except AssertionError as error:
                self._client.tally.failures.append(str(error))
            await asyncio.sleep(PAUSE_S)

    async def _chat(self) -> None:
        end = await self._client.ask("Which boiler does the station have?")
        assert end["event"] == "message.completed", end

    async def _upload(self) -> None:
        number = next(self._numbers)
        send = self._client.upload if number % 2 else self._client.upload_in_parts
        document = await send(f"# Station {number}\n\nStation {number} has boiler number {number * 37 % 1009}.")
        if number % DELETED_OF == 0:
            await self._client.delete(document)

    async def _search(self) -> None:
        await self._client.search("the boiler of a station")
