"""Documents that crash the parser, are posted many times or are deleted while ingested, and many documents at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import TestClient

from ragsvc.db.deletion_receipts import select_deletion
from ragsvc.db.workspaces import select_workspace
from ragsvc.deletion.requests import request_document_deletion
from ragsvc.domain.deletions import DeletionStatus
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.http.app import create_app
from ragsvc.http.contract.ids import parse_id
from tests.faults.support.end_state import (
    assert_consistent,
    assert_dead,
    assert_ready_once,
    job_of,
    select_documents,
    until_settled,
)
from tests.faults.support.fleet import SOON_S
from tests.faults.support.opening import open_fleet
from tests.faults.support.texts import make_text
from tests.http.conftest import Server, make_tenant, operator_of
from tests.http.support.documents import form
from tests.support.polling import until
from tests.support.servers.model_server import Pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.db.connections.pool import Record
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from tests.faults.support.fleet import Fleet
    from tests.http.conftest import Client, Tenant
    from tests.support.servers.servers import Servers

pytestmark = pytest.mark.xdist_group("faults")

# One emoji makes Python store the text with four bytes per character, which exceeds the parsers' memory limit here.
POISON = b"word " * 4_000_000 + "😀".encode()
MANY = [pytest.param(20, id="20"), pytest.param(100, id="100", marks=pytest.mark.chaos)]


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.chaos)])
async def test_documents_that_crash_the_parser(fleet: Fleet, workspace: Workspace, times: int) -> None:
    async with fleet.frozen():
        poison = [await fleet.accept(workspace, POISON, filename="poison.txt") for _ in range(times)]
        neighbours = [await fleet.accept(workspace, make_text()) for _ in range(6)]
    await until_settled(fleet, workspace)
    for document in poison:
        await assert_dead(fleet, document, code="parser_crash", attempts=1)
    rows = await select_documents(fleet, workspace)
    assert {rows[document.id]["status"] for document in neighbours} == {"ready"}
    await assert_consistent(fleet, workspace)
    assert len(fleet.ingestion) == 2


@pytest.fixture
async def api(fleet: Fleet) -> AsyncIterator[Client]:
    """The API on the fleet's servers."""
    async with TestClient(Server(create_app(fleet.settings))) as client:
        yield client


@pytest.fixture
async def tenant(api: Client) -> Tenant:
    """A workspace created through the API."""
    return await make_tenant(api, operator_of(api), "acme")


@pytest.mark.parametrize("times", MANY)
async def test_concurrent_duplicate_posts_of_one_file(fleet: Fleet, tenant: Tenant, times: int) -> None:
    content = make_text()
    uploads = await asyncio.gather(
        *(tenant.api.call("POST", "/v1/documents", data=form(content, filename="text.md")) for _ in range(times))
    )
    assert [response.status for response in uploads] == [202] * times
    file_id = uploads[0].json["file_id"]
    collection = (await tenant.api.post("/v1/collections", {"name": "another"})).json
    body = {"file_id": file_id, "collection_id": collection["id"]}
    attached = await asyncio.gather(*(tenant.api.post("/v1/documents", body) for _ in range(times)))
    # Every upload was accepted because each creates a file, but one file can be attached to a collection only once.
    assert sorted(response.status for response in attached) == [202, *[409] * (times - 1)]
    accepted = [response.json["id"] for response in (*uploads, *attached) if response.status == 202]
    assert len(set(accepted)) == times + 1
    for document_id in accepted:
        fleet.contents[parse_id("doc", document_id)] = content
    async with fleet.resources.pool.acquire() as conn:
        workspace = await select_workspace(conn, tenant.uuid)
    assert workspace is not None
    await until_settled(fleet, workspace)
    rows = await select_documents(fleet, workspace)
    assert {format_id("doc", id_): row["status"] for id_, row in rows.items()} == dict.fromkeys(accepted, "ready")
    await assert_consistent(fleet, workspace)


async def test_a_deletion_during_ingestion(fleet: Fleet, workspace: Workspace) -> None:
    paused = Pause()
    fleet.models.embeddings.script(paused)
    document = await fleet.accept(workspace, make_text())
    async with asyncio.timeout(SOON_S):
        await paused.reached.wait()
    (row,) = (await select_documents(fleet, workspace)).values()
    deletion = await request_document_deletion(fleet.resources, workspace.id, document.id, purge_file=True)
    paused.resumed.set()
    await assert_deleted(fleet, workspace, deletion.id, row)
    assert await select_documents(fleet, workspace) == {}
    assert (await job_of(fleet, document, Queue.DELETION)).status is JobStatus.DONE
    # The worker that was embedding must not have written any rows afterwards.
    await assert_consistent(fleet, workspace)


async def test_a_worker_killed_during_a_deletion(fleet: Fleet, workspace: Workspace) -> None:
    document, neighbour = [await fleet.accept(workspace, make_text()) for _ in range(2)]
    await assert_ready_once(fleet, workspace, [document, neighbour])
    row = (await select_documents(fleet, workspace))[document.id]
    paused = Pause()
    fleet.store.deletes.script(paused)
    deletion = await request_document_deletion(fleet.resources, workspace.id, document.id, purge_file=True)
    async with asyncio.timeout(SOON_S):
        await paused.reached.wait()
    await (await fleet.owner_of(document)).kill()
    await fleet.staff()
    await assert_deleted(fleet, workspace, deletion.id, row)
    await assert_ready_once(fleet, workspace, [neighbour])


async def assert_deleted(fleet: Fleet, workspace: Workspace, deletion_id: UUID, row: Record) -> None:
    """Wait for the receipt, and assert that it reports a complete deletion and that this is true."""
    await until_settled(fleet, workspace)
    async with fleet.resources.pool.acquire() as conn:
        receipt = await select_deletion(conn, workspace.id, deletion_id)
    assert receipt is not None
    assert (receipt.status, {store.remaining for store in receipt.stores}) == (DeletionStatus.COMPLETED, {0})
    removed = {store.store: store.removed for store in receipt.stores}
    assert (removed["objects"], removed["documents"], removed["chunks"]) == (1, 1, row["chunk_count"])
    assert not await fleet.resources.storage.object_exists(row["bucket"], row["object_key"])
    assert row["id"] not in await select_documents(fleet, workspace)


async def run_in_all_slots(fleet: Fleet, workspace: Workspace, count: int) -> int:
    """Use all `count` job slots at once, then finish all jobs, and return the number of workers that ran them.

    Ten more documents wait in the queue and are ingested afterwards.
    """
    paused = Pause()
    fleet.models.embeddings.usual = paused
    documents = [await fleet.accept(workspace, make_text(sections=1)) for _ in range(count + 10)]

    async def all_in_progress() -> bool:
        async with fleet.resources.pool.acquire() as conn:
            running = "SELECT count(*) FROM jobs WHERE workspace_id = $1 AND status = 'running'"
            return bool(await conn.fetchval(running, workspace.id) == count)

    await until(all_in_progress, timeout_s=SOON_S, what=f"{count} jobs in progress")
    async with fleet.resources.pool.acquire() as conn:
        owners = "SELECT count(DISTINCT lease_owner) FROM jobs WHERE workspace_id = $1 AND status = 'running'"
        workers: int = await conn.fetchval(owners, workspace.id)
    fleet.models.embeddings.usual = None
    paused.resumed.set()
    await assert_ready_once(fleet, workspace, documents, timeout_s=2 * SOON_S)
    return workers


async def test_12_jobs_in_progress_across_workers(fleet: Fleet, workspace: Workspace) -> None:
    assert await run_in_all_slots(fleet, workspace, 2 * fleet.settings.jobs.ingestion_concurrency) == 2


@pytest.mark.chaos
async def test_150_jobs_in_progress_across_workers(base_settings: Settings, template: str, servers: Servers) -> None:
    async with open_fleet(
        base_settings, template, servers, ingestion_concurrency=30, model_timeout_s=SOON_S, job_lease_s=6.0
    ) as fleet:
        await fleet.staff(ingestion=5, deletion=0)
        assert await run_in_all_slots(fleet, await fleet.make_workspace(), 150) == 5
