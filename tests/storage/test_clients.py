"""Slow readers occupy none of the store's shared connections, and waiting for one is fair and bounded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from ragsvc.errors.work import TransientFailure
from ragsvc.shares import Holder, Shares, holder_now
from ragsvc.storage.calls import share_calls
from ragsvc.storage.clients import MAX_CALLS
from ragsvc.storage.errors import ObjectMissing

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.storage.store import Storage

KEY = "objects/a"
LARGE = bytes(2 * 1024 * 1024)


async def test_open_objects_do_not_delay_other_calls(storage: Storage, workspace: Workspace) -> None:
    await storage.put_object(workspace.bucket, KEY, body=LARGE, metadata={})
    async with AsyncExitStack() as stack:
        for _ in range(MAX_CALLS + 1):
            await stack.enter_async_context(storage.open_object(workspace.bucket, KEY))
        async with asyncio.timeout(30):
            assert (await storage.head_object(workspace.bucket, KEY)).size_bytes == len(LARGE)


async def test_a_missing_object_cannot_be_opened(storage: Storage, workspace: Workspace) -> None:
    with pytest.raises(ObjectMissing):
        async with storage.open_object(workspace.bucket, "objects/none"):
            pass


class Calls:
    """A client whose calls last until the test ends them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = asyncio.Event()

    async def _make_api_call(self, operation: str, _parameters: dict[str, Any]) -> str:
        self.begun.append(operation)
        await self.may_end.wait()
        return operation


async def call(client: Any, name: str, by: Holder) -> Any:
    holder_now.set(by)
    return await client._make_api_call(name, {})


async def test_calls_of_one_workspace_leave_connections_for_others() -> None:
    client: Any = Calls()
    connections = Shares("test", 4, max_wait_s=30)
    share_calls(client, connections)
    greedy, other = Holder(uuid4(), uuid4()), Holder(uuid4(), uuid4())
    tasks = [asyncio.create_task(call(client, "greedy", greedy)) for _ in range(6)]
    tasks.append(asyncio.create_task(call(client, "other", other)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert client.begun == ["greedy"] * 3 + ["other"]
    client.may_end.set()
    assert await asyncio.gather(*tasks) == ["greedy"] * 6 + ["other"]
    assert connections.free == 4


async def test_waiting_for_a_connection_is_bounded_and_a_cancelled_call_returns_its_own() -> None:
    client: Any = Calls()
    connections = Shares("test", 1, max_wait_s=0.05)
    share_calls(client, connections)
    running = asyncio.create_task(client._make_api_call("a", {}))
    await asyncio.sleep(0)
    with pytest.raises(TransientFailure, match="wait for the object store"):
        await client._make_api_call("b", {})
    running.cancel()
    await asyncio.wait({running})
    assert connections.free == 1
