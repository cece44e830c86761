"""`ragsvc dev` recovers when its processes are killed, its Redis is flushed or its model server goes down."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from ragsvc.http.contract.ids import parse_id
from tests.support.polling import until
from tests.support.servers.stacks import new_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.servers.stacks import Stack

pytestmark = [pytest.mark.usefixtures("servers"), pytest.mark.xdist_group("recovery")]

# Only a deadline for polling; on an idle machine, recovery takes less than 20 s.
TIMEOUT_S = 180.0
LONG_TEXT = "\n\n".join(
    f"# Station {n}\n\nStation {n} lies at {300 + n} metres, has {n % 7 + 2} crews and opens at {n % 12} o'clock. "
    f"Its reserve boiler is number {n * 37 % 1009}, and its signal is {['red', 'green', 'amber'][n % 3]}."
    for n in range(160)
)


class Client:
    """A client of the API with a workspace's key."""

    def __init__(self, session: aiohttp.ClientSession, ready: dict[str, Any]) -> None:
        self.ready = ready
        self._session = session

    async def call(self, method: str, path: str, **arguments: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.ready['api_key']}"}
        url = self.ready["base_url"] + path
        async with self._session.request(method, url, headers=headers, **arguments) as response:
            assert response.ok, (response.status, await response.text())
            return await response.json()

    async def upload(self, text: str, filename: str = "stations.md") -> str:
        form = aiohttp.FormData()
        form.add_field("file", text.encode(), filename=filename, content_type="text/markdown")
        document_id: str = (await self.call("POST", "/v1/documents", data=form))["id"]
        return document_id

    async def document(self, document_id: str) -> dict[str, Any]:
        document: dict[str, Any] = await self.call("GET", f"/v1/documents/{document_id}")
        return document

    async def until_status(self, document_id: str, status: str, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        async def check() -> dict[str, Any] | None:
            document = await self.document(document_id)
            return document if document["status"] == status else None

        return await until(check, timeout_s=timeout_s, what=f"{document_id} {status}")

    async def chunks(self, document_id: str) -> list[tuple[int, str, int, int]]:
        found: list[tuple[int, str, int, int]] = []
        cursor = ""
        while True:
            page = await self.call("GET", f"/v1/documents/{document_id}/chunks?limit=100{cursor}")
            found += [(c["ordinal"], c["content_hash"], c["char_start"], c["char_end"]) for c in page["data"]]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"


@pytest.fixture(scope="module")
async def stack(pytestconfig: pytest.Config) -> AsyncIterator[Stack]:
    cache: Path = pytestconfig.cache.mkdir("ragsvc-models")
    # Small batches, so that embedding takes long enough to be interrupted.
    async with new_stack(cache, env={"EMBEDDING_BATCH_SIZE": "4", "EMBEDDING_CONCURRENCY": "1"}) as stack:
        await stack.start()
        yield stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    ready = stack.read()
    assert ready is not None
    async with aiohttp.ClientSession() as session:
        yield Client(session, ready)


async def test_a_worker_killed_while_embedding_loses_no_chunk(stack: Stack, client: Client) -> None:
    undisturbed = await client.upload(LONG_TEXT, "undisturbed.md")
    await client.until_status(undisturbed, "ready")
    # Different words, since cached embeddings would finish at once.
    other = LONG_TEXT.replace("metres", "feet")
    killed = await client.upload(other, "killed.md")

    async def is_embedding() -> bool:
        document = await client.document(killed)
        return bool(document["stage"] == "embedding" and document["progress"] > 0.3)

    await until(is_embedding, timeout_s=TIMEOUT_S)
    ready = stack.read()
    assert ready is not None
    os.kill(ready["pids"]["ingestion"][0], signal.SIGKILL)
    await client.until_status(killed, "ready")
    assert await generation_of(client, killed) > 0

    again = await client.upload(other, "killed-again.md")
    await client.until_status(again, "ready")
    assert await client.chunks(killed) == await client.chunks(again)
    assert len(await client.chunks(killed)) == len(await client.chunks(undisturbed))
    await assert_no_stale_builds(client)


async def generation_of(client: Client, document_id: str) -> int:
    """Return how often the job of a document was rescued or queued again."""
    connection = await asyncpg.connect(client.ready["database_url"])
    generation: int = await connection.fetchval(
        "SELECT generation FROM jobs WHERE subject_id = $1", parse_id("doc", document_id)
    )
    await connection.close()
    return generation


async def assert_no_stale_builds(client: Client) -> None:
    connection = await asyncpg.connect(client.ready["database_url"])

    async def are_removed() -> bool:
        stale = await connection.fetchval(
            "SELECT count(*) FROM chunk_text c JOIN documents d ON d.workspace_id = c.workspace_id"
            " AND d.id = c.document_id WHERE d.status = 'ready' AND c.build_id <> d.active_build"
        )
        chunks = await connection.fetchval("SELECT count(*) FROM chunk_text")
        return bool(stale == 0 and chunks == await connection.fetchval("SELECT count(*) FROM chunk_vec_1"))

    await until(are_removed, timeout_s=TIMEOUT_S, what="the removal of stale builds")
    await connection.close()


async def test_an_emptied_redis_loses_no_document(client: Client) -> None:
    redis = Redis.from_url(client.ready["redis_url"])
    uploaded = [await client.upload(f"# Note {n}\n\nNote {n} is about kettle {n}.") for n in range(10)]
    await redis.flushall()
    uploaded += [await client.upload(f"# Memo {n}\n\nMemo {n} is about kettle {n}.") for n in range(5)]
    await redis.flushall()
    await redis.aclose()
    for document_id in uploaded:
        document = await client.until_status(document_id, "ready")
        assert document["error"] is None


async def test_a_document_survives_a_crash_of_the_model_server(stack: Stack, client: Client) -> None:
    ready = stack.read()
    assert ready is not None
    os.kill(ready["pids"]["models"], signal.SIGSTOP)
    os.kill(ready["pids"]["models"], signal.SIGKILL)
    document_id = await client.upload("# Away\n\nThis was written while the model server was away.")
    document = await client.until_status(document_id, "ready")
    assert document["error"] is None


@pytest.mark.chaos
async def test_a_deletion_survives_a_killed_worker(stack: Stack, client: Client) -> None:
    document_id = await client.upload(LONG_TEXT.replace("metres", "yards"), "doomed.md")
    await client.until_status(document_id, "ready")
    ready = stack.read()
    assert ready is not None
    os.kill(ready["pids"]["deletion"][0], signal.SIGKILL)
    deletion = await client.call("DELETE", f"/v1/documents/{document_id}")

    async def is_completed() -> dict[str, Any] | None:
        receipt: dict[str, Any] = await client.call("GET", f"/v1/deletions/{deletion['deletion_id']}")
        return receipt if receipt["status"] == "completed" else None

    receipt = await until(is_completed, timeout_s=TIMEOUT_S)
    assert {store["remaining"] for store in receipt["stores"]} == {0}
    hits = await client.call("POST", "/v1/search", json={"query": "station yards boiler", "limit": 100})
    assert document_id not in {hit["document_id"] for hit in hits["data"]}


async def test_documents_survive_a_kill_of_every_process(stack: Stack, client: Client) -> None:
    before = await client.upload("# Lighthouse\n\nThe lighthouse keeper is called Ansgar Vind.", "lighthouse.md")
    await client.until_status(before, "ready")
    ready = stack.read()
    assert ready is not None
    for pids in (ready["pids"], {"supervisor": ready["supervisor_pid"]}):
        for value in pids.values():
            for pid in value if isinstance(value, list) else [value]:
                os.kill(pid, signal.SIGKILL)
    await stack.supervisor.wait()
    client.ready = await stack.start()
    hits = await client.call("POST", "/v1/search", json={"query": "Who keeps the lighthouse?"})
    assert hits["data"][0]["document_id"] == before
