"""A draining process hands over its streams: readers continue at another replica until the answer ends."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from ragsvc.http.contract.ids import parse_id
from tests.http.support.documents import finish_document
from tests.http.support.processes import serving
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.http.conftest import Tenant
    from tests.http.support.processes import ApiProcess
    from tests.support.servers.model_server import ScriptedModels

DEADLINE_S = 30.0
ANSWER = "Kettles boil their water at a hundred degrees [1]."


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replicas; the first one will be stopped."""

    session: aiohttp.ClientSession
    stopping: ApiProcess
    stopping_url: str
    running_url: str

    async def read(self, stream: aiohttp.ClientResponse, events: list[tuple[int, str, dict[str, Any]]]) -> bytes:
        """Append a stream's events to `events` until it ends or sends a reconnect comment; return the comment."""
        event: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE_S):
            async for line in stream.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if line.startswith(b": reconnect"):
                    return line
                event[name] = value
                if name == "data":
                    events.append((int(event["id"]), event["event"], orjson.loads(value)))
        return b""


@pytest.fixture
async def pair(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Pair]:
    scripted = scripted_models.applied_to(settings)
    scripted_models.chat_text = ANSWER
    async with AsyncExitStack() as stack:
        stopping = await stack.enter_async_context(serving(scripted, API_GRACE_S="20"))
        running = await stack.enter_async_context(serving(scripted))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Pair(session, stopping, await stopping.started(), await running.started())


async def conversation_of(tenant: Tenant, resources: Resources) -> str:
    """Create a ready document and a chat session; return the path of its messages."""
    document = await tenant.upload()
    await finish_document(resources, tenant.uuid, parse_id("doc", document["id"]))
    session = (await tenant.api.post("/v1/chat/sessions")).json
    return f"/v1/chat/sessions/{session['id']}/messages"


async def test_a_stream_of_a_draining_process_continues_at_another_replica(
    pair: Pair, tenant: Tenant, resources: Resources, scripted_models: ScriptedModels
) -> None:
    asked = pair.stopping_url + await conversation_of(tenant, resources)
    pause = Pause(after_deltas=3)
    scripted_models.chat.script(pause)
    received: list[tuple[int, str, dict[str, Any]]] = []
    async with pair.session.post(asked, json={"content": "kettles?"}, headers=tenant.api.headers) as stream:
        run_id = stream.headers["X-Run-Id"]
        reading = asyncio.create_task(pair.read(stream, received))
        await asyncio.wait_for(pause.reached.wait(), DEADLINE_S)
        pair.stopping.process.send_signal(signal.SIGTERM)
        assert await reading == b": reconnect\n"
    followed = f"{pair.running_url}/v1/chat/runs/{run_id}/events?after={received[-1][0] if received else 0}"
    async with pair.session.get(followed, headers=tenant.api.headers) as stream:
        reading = asyncio.create_task(pair.read(stream, received))
        # The draining process still writes the answer within its grace period.
        pause.resumed.set()
        assert await reading == b""
    assert [number for number, _name, _data in received] == list(range(1, len(received) + 1))
    assert "".join(data["text"] for _number, name, data in received if name == "message.delta") == ANSWER
    assert received[-1][1] == "message.completed"
    assert await pair.stopping.exit_code() == 0


async def test_an_answer_that_outlasts_the_grace_period_is_interrupted_and_can_be_retried(
    pair: Pair, tenant: Tenant, resources: Resources, scripted_models: ScriptedModels
) -> None:
    asked = pair.stopping_url + await conversation_of(tenant, resources)
    pause = Pause(after_deltas=3)
    scripted_models.chat.script(pause)
    async with pair.session.post(asked, json={"content": "kettles?"}, headers=tenant.api.headers) as stream:
        run_id = stream.headers["X-Run-Id"]
        await asyncio.wait_for(pause.reached.wait(), DEADLINE_S)
        pair.stopping.process.send_signal(signal.SIGTERM)
        await pair.stopping.logged("api_draining")
        pair.stopping.process.send_signal(signal.SIGTERM)  # ends the grace period
        assert await pair.stopping.exit_code() == 0
    received: list[tuple[int, str, dict[str, Any]]] = []
    events = f"{pair.running_url}/v1/chat/runs/{run_id}/events"
    async with pair.session.get(events, headers=tenant.api.headers) as stream:
        await pair.read(stream, received)
    assert received[-1][1] == "run.interrupted"
    assert received[-1][2]["retryable"]
    again = f"{pair.running_url}/v1/chat/runs/{run_id}/retry"
    received.clear()
    async with pair.session.post(again, json={}, headers=tenant.api.headers) as stream:
        assert stream.status == 200, await stream.text()
        await pair.read(stream, received)
    assert received[-1][1] == "message.completed"
