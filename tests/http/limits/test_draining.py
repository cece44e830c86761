"""A process that stops hands its readers over: an answer goes on where they come back, to its end."""

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
    """Two replicas; the first is the one that will be stopped."""

    session: aiohttp.ClientSession
    leaving: ApiProcess
    leaving_url: str
    staying_url: str

    async def read(self, stream: aiohttp.ClientResponse, events: list[tuple[int, str, dict[str, Any]]]) -> bytes:
        """Add a stream's events, up to its end or its comment, which is returned."""
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
        leaving = await stack.enter_async_context(serving(scripted, API_GRACE_S="20"))
        staying = await stack.enter_async_context(serving(scripted))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Pair(session, leaving, await leaving.started(), await staying.started())


async def conversation_of(tenant: Tenant, resources: Resources) -> str:
    """Return where questions about a ready document are asked."""
    document = await tenant.upload()
    await finish_document(resources, tenant.uuid, parse_id("doc", document["id"]))
    session = (await tenant.api.post("/v1/chat/sessions")).json
    return f"/v1/chat/sessions/{session['id']}/messages"


async def test_a_stream_that_is_told_to_reconnect_goes_on_at_another_replica(
    pair: Pair, tenant: Tenant, resources: Resources, scripted_models: ScriptedModels
) -> None:
    asked = pair.leaving_url + await conversation_of(tenant, resources)
    pause = Pause(after_deltas=3)
    scripted_models.chat.script(pause)
    told: list[tuple[int, str, dict[str, Any]]] = []
    async with pair.session.post(asked, json={"content": "kettles?"}, headers=tenant.api.headers) as stream:
        run_id = stream.headers["X-Run-Id"]
        reading = asyncio.create_task(pair.read(stream, told))
        await asyncio.wait_for(pause.reached.wait(), DEADLINE_S)
        pair.leaving.process.send_signal(signal.SIGTERM)
        assert await reading == b": reconnect\n"
    followed = f"{pair.staying_url}/v1/chat/runs/{run_id}/events?after={told[-1][0] if told else 0}"
    async with pair.session.get(followed, headers=tenant.api.headers) as stream:
        reading = asyncio.create_task(pair.read(stream, told))
        # The one that leaves still writes the answer, within its grace.
        pause.resumed.set()
        assert await reading == b""
    assert [number for number, _name, _data in told] == list(range(1, len(told) + 1))
    assert "".join(data["text"] for _number, name, data in told if name == "message.delta") == ANSWER
    assert told[-1][1] == "message.completed"
    assert await pair.leaving.exit_code() == 0


async def test_an_answer_that_outlasts_the_grace_is_interrupted_and_can_be_asked_again(
    pair: Pair, tenant: Tenant, resources: Resources, scripted_models: ScriptedModels
) -> None:
    asked = pair.leaving_url + await conversation_of(tenant, resources)
    pause = Pause(after_deltas=3)
    scripted_models.chat.script(pause)
    async with pair.session.post(asked, json={"content": "kettles?"}, headers=tenant.api.headers) as stream:
        run_id = stream.headers["X-Run-Id"]
        await asyncio.wait_for(pause.reached.wait(), DEADLINE_S)
        pair.leaving.process.send_signal(signal.SIGTERM)
        await pair.leaving.logged("api_draining")
        pair.leaving.process.send_signal(signal.SIGTERM)  # which ends the grace
        assert await pair.leaving.exit_code() == 0
    told: list[tuple[int, str, dict[str, Any]]] = []
    events = f"{pair.staying_url}/v1/chat/runs/{run_id}/events"
    async with pair.session.get(events, headers=tenant.api.headers) as stream:
        await pair.read(stream, told)
    assert told[-1][1] == "run.interrupted"
    assert told[-1][2]["retryable"]
    again = f"{pair.staying_url}/v1/chat/runs/{run_id}/retry"
    told.clear()
    async with pair.session.post(again, json={}, headers=tenant.api.headers) as stream:
        assert stream.status == 200, await stream.text()
        await pair.read(stream, told)
    assert told[-1][1] == "message.completed"
