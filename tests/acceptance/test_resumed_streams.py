"""Two API processes share a database; the one that relays a stream, or the one that owns its run, is killed."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from ragsvc.cli.client.sse import read_events
from ragsvc.http.contract.ids import parse_id
from ragsvc.resources import open_resources
from tests.faults.support.own_servers import OwnRedis
from tests.http.support.processes import serving
from tests.support.documents.library import Library
from tests.support.polling import until
from tests.support.remote import Remote
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ragsvc.cli.client.sse import Event
    from ragsvc.settings.settings import Settings
    from tests.http.support.processes import ApiProcess
    from tests.support.servers.model_server import ScriptedModels

ANSWER = "Refunds take 14 days [1]. They are paid to the card that was charged [1]. Ask the desk for the rest of it."
TIMEOUT_S = 180.0
# Long enough that a live owner does not lose its run on a busy machine.
LEASE_S = 10


@dataclass(frozen=True, slots=True)
class Replica:
    """An API process; `name` identifies it in the printed tables."""

    name: str
    process: ApiProcess
    url: str

    def kill(self) -> None:
        """Kill the process."""
        self.process.process.kill()


@dataclass(slots=True)
class Client:
    """A client that reads the events of a run; `log` has the seconds, replica name and content of each event."""

    session: aiohttp.ClientSession
    remote: Remote
    started_at: float = field(default_factory=time.monotonic)
    log: list[tuple[float, str, Event]] = field(default_factory=list)
    run_id: str = ""

    @property
    def ids(self) -> list[int]:
        """The ids of the events, in the order of arrival."""
        return [int(event.id or 0) for _at, _where, event in self.log]

    @property
    def names(self) -> list[str]:
        """The names of the events."""
        return [event.name for _at, _where, event in self.log]

    @property
    def text(self) -> str:
        """The answer so far; asserts that each delta continues where the last one ended."""
        text = ""
        for _at, _where, event in self.log:
            if event.name == "message.delta":
                assert event.data["offset"] == len(text)
                text += event.data["text"]
        return text

    async def ask(self, replica: Replica) -> None:
        """Ask a question in a new session, and read until the stream ends or breaks."""
        path = f"{replica.url}/v1/chat/sessions"
        async with self.session.post(path, json={}, headers=self.remote.headers) as response:
            path = f"{path}/{(await response.json())['id']}/messages"
        await self._read(replica, "POST", path, {"content": "How long do refunds take?"})

    async def follow(self, replica: Replica, run_id: str) -> None:
        """Follow a run from the last received event until the stream ends or breaks."""
        await self._read(replica, "GET", f"{replica.url}/v1/chat/runs/{run_id}/events", None)

    async def retry(self, replica: Replica, run_id: str) -> None:
        """Retry an interrupted run."""
        await self._read(replica, "POST", f"{replica.url}/v1/chat/runs/{run_id}/retry", {})

    async def _read(self, replica: Replica, method: str, url: str, body: dict[str, Any] | None) -> None:
        headers = {**self.remote.headers, **({"Last-Event-ID": str(self.ids[-1])} if self.log else {})}
        try:
            async with self.session.request(method, url, json=body, headers=headers) as response:
                assert response.status == 200, await response.text()
                self.run_id = response.headers["X-Run-Id"]
                async for event in read_events(response):
                    self.log.append((time.monotonic() - self.started_at, replica.name, event))
        except aiohttp.ClientError:
            pass

    def print(self, title: str) -> None:
        """Print the received events."""
        print(f"\n{title}")  # noqa: T201
        for at, where, event in self.log:
            shown = {name: value for name, value in event.data.items() if name in _SHOWN}
            print(f"{at * 1000:7.0f} ms  from {where}  {event.id:>3}  {event.name:<20} {shown}")  # noqa: T201


_SHOWN = {"text", "offset", "n", "quote", "verified", "text_length", "retryable", "finish_reason"}


@dataclass(frozen=True, slots=True)
class Site:
    """Two replicas and a workspace with one document."""

    replicas: tuple[Replica, Replica]
    remote: Remote

    def client(self) -> Client:
        """Return a new client."""
        return Client(self.remote.session, self.remote)


@asynccontextmanager
async def open_site(settings: Settings) -> AsyncIterator[Site]:
    """Start two API processes and add a document to a new workspace."""
    changes = {"RUN_LEASE_S": str(LEASE_S), "SWEEP_INTERVAL_S": "0.5"}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(settings, **changes))
        second = await stack.enter_async_context(serving(settings, **changes))
        urls = await asyncio.gather(first.started(), second.started())
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)))
        remote = await Remote.make(http, urls[0], settings)
        resources = await stack.enter_async_context(open_resources(settings, pool_size=2))
        library = Library(resources, parse_id("ws", remote.workspace["id"]))
        await library.add("A refund takes 14 days. It is paid to the card that was charged.", filename="handbook.md")
        yield Site((Replica("A", first, urls[0]), Replica("B", second, urls[1])), remote)


@pytest.fixture
async def site(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Site]:
    """A site with a scripted model."""
    scripted_models.chat_text = ANSWER
    async with open_site(scripted_models.applied_to(settings)) as opened:
        yield opened


async def wait_for_events(client: Client, count: int) -> None:
    """Wait until a client has received at least `count` events."""
    await until(lambda: len(client.log) >= count, timeout_s=TIMEOUT_S, what=f"event {count}")


async def test_a_stream_continues_at_another_process_when_its_relay_is_killed(
    site: Site, scripted_models: ScriptedModels
) -> None:
    owner, relay = site.replicas
    pause = Pause(after_deltas=8)
    scripted_models.chat.script(pause)
    witness, client = site.client(), site.client()
    asking = asyncio.create_task(witness.ask(owner))
    await wait_for_events(witness, 1)
    following = asyncio.create_task(client.follow(relay, witness.run_id))
    await wait_for_events(client, 10)
    relay.kill()
    await following
    assert client.names[-1] != "message.completed"
    pause.resumed.set()
    await client.follow(owner, witness.run_id)
    await asking
    client.print("the relaying process was killed")
    assert client.names[-1] == "message.completed"
    assert client.ids == list(range(1, len(client.ids) + 1))
    assert client.text == ANSWER
    assert [(event.id, event.name, event.data) for _at, _where, event in client.log] == [
        (event.id, event.name, event.data) for _at, _where, event in witness.log
    ]
    assert {where for _at, where, _event in client.log} == {"A", "B"}


async def test_a_killed_run_is_reported_as_interrupted_by_another_process(
    site: Site, scripted_models: ScriptedModels
) -> None:
    owner, other = site.replicas
    scripted_models.chat.script(Pause(after_deltas=8))
    client, witness = site.client(), site.client()
    asking = asyncio.create_task(client.ask(owner))
    await wait_for_events(client, 1)
    following = asyncio.create_task(witness.follow(other, client.run_id))
    await wait_for_events(client, 10)
    owner.kill()
    await asking
    received = list(client.ids)
    await client.follow(other, client.run_id)
    await following
    client.print("the owner of the run was killed")
    assert client.ids == list(range(1, len(client.ids) + 1))
    assert client.ids[: len(received)] == received
    assert client.names.count("run.interrupted") == 1
    end = client.log[-1][2]
    assert (end.name, end.data["text_length"], end.data["retryable"]) == ("run.interrupted", len(client.text), True)
    assert ANSWER.startswith(client.text)
    assert witness.names == client.names

    again = site.client()
    await again.retry(other, client.run_id)
    again.print("the run was retried")
    assert again.names[-1] == "message.completed"
    assert again.text == ANSWER


async def test_an_answer_survives_a_flushed_and_a_killed_redis(
    settings: Settings, scripted_models: ScriptedModels, tmp_path: Path
) -> None:
    redis = OwnRedis(tmp_path)
    await redis.start()
    own = settings.changed({"redis_url": type(settings.stores.redis_url)(redis.url)})
    scripted_models.chat_text = ANSWER
    flushed, killed = Pause(after_deltas=6), Pause(after_deltas=12)
    try:
        async with open_site(scripted_models.applied_to(own)) as site:
            owner, relay = site.replicas
            for pause in (flushed, killed):
                scripted_models.chat.script(pause)
                witness, client = site.client(), site.client()
                asking = asyncio.create_task(witness.ask(owner))
                await wait_for_events(witness, 1)
                following = asyncio.create_task(client.follow(relay, witness.run_id))
                await wait_for_events(client, 7)
                if pause is flushed:
                    async with redis.client() as connection:
                        await connection.flushall()
                else:
                    await redis.kill()
                pause.resumed.set()
                await asyncio.wait_for(asyncio.gather(asking, following), TIMEOUT_S)
                assert client.ids == witness.ids == list(range(1, len(client.ids) + 1))
                assert client.text == witness.text == ANSWER
                assert client.names[-1] == witness.names[-1] == "message.completed"
    finally:
        with suppress(ProcessLookupError):
            await redis.kill()
