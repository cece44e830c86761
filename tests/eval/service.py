"""The evaluated service: the whole stack on a persistent data directory, its documents, and its search."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from ragsvc.devstack.supervisor import Options, Supervisor
from ragsvc.http.contract.ids import parse_id
from ragsvc.retrieval.search import search
from ragsvc.settings.settings import FIELDS, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from ragsvc.devstack.ready_file import Access
    from ragsvc.domain.search import SearchHit, SearchMode
    from ragsvc.resources import Resources
    from tests.eval.pages import Page
    from tests.eval.questions import Question

POLL_S = 1.0
UPLOADS_AT_ONCE = 4
SEARCHES_AT_ONCE = 4
DEPTH = 10


@asynccontextmanager
async def open_service(data_dir: Path, given: Mapping[str, str]) -> AsyncIterator[Access]:
    """Run the stack of `ragsvc dev`; the data directory retains documents and embeddings for the next run."""
    ready: asyncio.Future[Access] = asyncio.get_running_loop().create_future()
    options = Options(data_dir=data_dir, port=0)
    supervisor = Supervisor(options, report=lambda line: print(f"  {line}"), announce=ready.set_result, given=given)  # noqa: T201
    running = asyncio.create_task(supervisor.run())
    either: set[asyncio.Future[Any]] = {running, ready}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await running
        yield ready.result()
    finally:
        running.cancel()
        await asyncio.wait({running})


def settings_of(access: Access, changed: Mapping[str, str]) -> Settings:
    """Return the settings of the service's processes, with changes."""
    env = {**access.env, **changed}
    return Settings.of({name: env[name.upper()] for name in FIELDS if name.upper() in env})


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace of the evaluation, and a client with all scopes."""

    id: UUID
    client: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Return the response to a request."""
        return await _call(self.client, method, path, **options)


@asynccontextmanager
async def open_workspace(access: Access, name: str) -> AsyncIterator[Workspace]:
    """Yield the workspace with this name; it is created once."""
    admin = {"Authorization": f"Bearer {access.env['ADMIN_API_KEY']}"}
    async with aiohttp.ClientSession(access.base_url, headers=admin) as client:
        known = {found["name"]: found["id"] async for found in _list(client, "/v1/workspaces")}
        public_id = known.get(name) or (await _call(client, "POST", "/v1/workspaces", json={"name": name}))["id"]
        made = await _call(client, "POST", f"/v1/workspaces/{public_id}/keys", json={"name": "evaluation"})
    own = {"Authorization": f"Bearer {made['key']}"}
    async with aiohttp.ClientSession(access.base_url, headers=own) as client:
        yield Workspace(parse_id("ws", public_id), client)


async def ingest(workspace: Workspace, pages: Sequence[Page]) -> int:
    """Upload missing documents, wait until all are ready, and return the number of chunks."""
    known = {document["filename"] async for document in _list(workspace.client, "/v1/documents")}
    missing = [page for page in pages if page.filename not in known]
    turns = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def upload(page: Page) -> None:
        form = aiohttp.FormData()
        form.add_field("file", page.html.encode(), filename=page.filename, content_type="text/html; charset=utf-8")
        async with turns:
            await workspace.call("POST", "/v1/documents", data=form)

    async with asyncio.TaskGroup() as group:
        for page in missing:
            group.create_task(upload(page))
    return await _wait_ready(workspace)


async def _wait_ready(workspace: Workspace) -> int:
    while True:
        documents = [document async for document in _list(workspace.client, "/v1/documents")]
        failed = [document for document in documents if document["status"] == "failed"]
        if failed:
            raise RuntimeError(f"{failed[0]['filename']} failed: {failed[0]['error']}")
        waiting = sum(document["status"] != "ready" for document in documents)
        if not waiting:
            return sum(document["chunk_count"] for document in documents)
        print(f"  {waiting} of {len(documents)} documents are being ingested", end="\r", flush=True)  # noqa: T201
        await asyncio.sleep(POLL_S)


async def rank_all(
    resources: Resources, workspace_id: UUID, questions: Sequence[Question], *, mode: SearchMode
) -> list[int | None]:
    """Return the rank of the first hit that answers each question, or None if none of the first ten does."""
    turns = asyncio.Semaphore(SEARCHES_AT_ONCE)

    async def rank(question: Question) -> int | None:
        async with turns:
            hits = (await search(resources, workspace_id, query=question.query, mode=mode, limit=DEPTH)).hits
        return next((number for number, hit in enumerate(hits, start=1) if _answers(hit, question)), None)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(rank(question)) for question in questions]
    return [task.result() for task in tasks]


def _answers(hit: SearchHit, question: Question) -> bool:
    return question.is_answered_by(hit.filename, hit.char_start, hit.char_end)


async def _list(client: aiohttp.ClientSession, path: str) -> AsyncIterator[Any]:
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
        page = await _call(client, "GET", path, params=params)
        for item in page["data"]:
            yield item
        cursor = page["next_cursor"]


async def _call(client: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Any:
    async with client.request(method, path, **options) as answer:
        if not answer.ok:
            raise RuntimeError(f"{method} {path} returned {answer.status}: {await answer.text()}")
        return await answer.json()
