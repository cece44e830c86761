"""A client as in production: it repeats requests that a restart interrupted, and counts them."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TRIES = 20
PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
# Statuses to retry: the gateway got no response, the service is stopping or busy, or the call is still in progress.
TRANSIENT = frozenset({409, 429, 502, 503, 504})
BROKEN = (aiohttp.ClientError, TimeoutError, ConnectionError)
ENDS = frozenset({"message.completed", "run.failed", "run.cancelled", "run.interrupted"})


class Repeatable(Exception):
    """A call did not get through and can be retried."""


@dataclass(slots=True)
class Tally:
    """The operations of all clients; `failures` has those that failed after all retries."""

    requests: int = 0
    retries: int = 0
    resumed: int = 0
    failures: list[str] = field(default_factory=list)
    documents: set[str] = field(default_factory=set)
    deleted: dict[str, str] = field(default_factory=dict)
    answers: int = 0


class Client:
    """A client with a workspace's key that calls the API through the load balancer."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self.tally = Tally()
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def call(
        self, method: str, path: str, *, body: object = None, data: Callable[[], Any] | None = None
    ) -> dict[str, Any]:
        """Return a request's response. A POST carries an Idempotency-Key, so that retries change nothing twice."""
        key = uuid.uuid4().hex

        async def send() -> dict[str, Any]:
            async with self._request(method, path, key=key, body=body, data=data) as response:
                found: dict[str, Any] = await response.json()
                return found

        return await self._repeat(send)

    async def upload(self, text: str, filename: str = "notes.md") -> str:
        """Send a document in one request and return its id."""

        def form() -> aiohttp.FormData:
            made = aiohttp.FormData()
            made.add_field("file", text.encode(), filename=filename, content_type="text/markdown")
            return made

        return self._record(await self.call("POST", "/v1/documents", data=form))

    async def upload_in_parts(self, text: str, filename: str = "parts.md") -> str:
        """Send a document through an upload session and return its id."""
        content = text.encode()
        upload = await self.call("POST", "/v1/uploads", body={"filename": filename, "size_bytes": len(content)})
        await self.call("PUT", f"/v1/uploads/{upload['id']}/parts/1", data=lambda: content)
        return self._record(await self.call("POST", f"/v1/uploads/{upload['id']}/complete"))

    async def delete(self, document_id: str) -> str:
        """Delete a document and return the deletion's id."""
        deletion: str = (await self.call("DELETE", f"/v1/documents/{document_id}"))["deletion_id"]
        self.tally.deleted[document_id] = deletion
        return deletion

    async def until_document(self, document_id: str, status: str = "ready", *, timeout_s: float = 120) -> None:
        """Wait until a document has the status."""

        async def look() -> bool:
            found = await self.call("GET", f"/v1/documents/{document_id}")
            assert found["status"] != "failed", found
            return bool(found["status"] == status)

        await until(look, timeout_s=timeout_s, what=f"{document_id} {status}")

    async def until_deleted(self, deletion_id: str, *, timeout_s: float = 120) -> dict[str, Any]:
        """Wait for a receipt and return it."""

        async def look() -> dict[str, Any] | None:
            found = await self.call("GET", f"/v1/deletions/{deletion_id}")
            return found if found["status"] == "completed" else None

        return await until(look, timeout_s=timeout_s, what=f"{deletion_id} completed")

    async def search(self, query: str) -> list[dict[str, Any]]:
        """Search, and return the hits."""
        hits: list[dict[str, Any]] = (await self.call("POST", "/v1/search", body={"query": query}))["data"]
        return hits

    async def ask(self, question: str) -> dict[str, Any]:
        """Ask in a new session and return the last event. A stream that ends early is resumed."""
        session = await self.call("POST", "/v1/chat/sessions", body={})
        path = f"/v1/chat/sessions/{session['id']}/messages"
        key = uuid.uuid4().hex
        run: dict[str, Any] = {"id": None, "last": 0}

        async def follow() -> dict[str, Any]:
            if run["id"] is None:
                request = self._request("POST", path, key=key, body={"content": question})
            else:
                self.tally.resumed += 1
                request = self._request("GET", f"/v1/chat/runs/{run['id']}/events?after={run['last']}")
            async with request as response:
                run["id"] = response.headers.get("X-Run-Id", run["id"])
                return await _read_to_the_end(response, run)

        end = await self._repeat(follow)
        self.tally.answers += 1
        return end

    def _record(self, document: dict[str, Any]) -> str:
        document_id: str = document["id"]
        self.tally.documents.add(document_id)
        return document_id

    async def _repeat(self, send: Callable[[], Any]) -> dict[str, Any]:
        pause_s = PAUSE_S
        for number in range(TRIES):
            self.tally.requests += number == 0
            self.tally.retries += number > 0
            try:
                found: dict[str, Any] = await send()
            except (*BROKEN, Repeatable) as error:
                last = f"{type(error).__name__}: {error}"
            else:
                return found
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        raise AssertionError(f"failed after {TRIES} attempts: {last}")

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        key: str = "",
        body: object = None,
        data: Callable[[], Any] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = self._headers | ({"Idempotency-Key": key} if method == "POST" else {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        sent = orjson.dumps(body) if body is not None else data() if data else None
        async with self._session.request(method, self._url + path, data=sent, headers=headers) as response:
            if response.status in TRANSIENT:
                raise Repeatable(f"{method} {path}: {response.status} {await response.text()}")
            assert response.ok, (method, path, response.status, await response.text())
            yield response


async def _read_to_the_end(response: aiohttp.ClientResponse, run: dict[str, Any]) -> dict[str, Any]:
    """Return a run's last event, and update `run` with the position in the stream."""
    event: dict[str, Any] = {}
    async for raw in response.content:
        name, _, value = raw.decode().strip().partition(": ")
        match name:
            case "id":
                run["last"] = int(value)
            case "event":
                event = {"event": value}
            case "data" if event.get("event") in ENDS:
                return event | {"data": orjson.loads(value)}
            case _:
                continue
    raise Repeatable("the stream ended before the run did")


@asynccontextmanager
async def open_client(url: str, admin_key: str) -> AsyncIterator[Client]:
    """Create a workspace and a key through the API, and yield a client that uses the key."""
    # A new connection for every request, so that restarts also affect new connections.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
        admin = Client(session, url, admin_key)
        workspace = await admin.call("POST", "/v1/workspaces", body={"name": "deployed"})
        made = await admin.call("POST", f"/v1/workspaces/{workspace['id']}/keys", body={"name": "deployed"})
        yield Client(session, url, made["key"])
