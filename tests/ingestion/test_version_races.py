"""Readers never see part of a version, and racing requests and dying workers leave a consistent state behind."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import chunks, documents, jobs
from ragsvc.deletion.execution import delete
from ragsvc.deletion.files import sweep_released_files
from ragsvc.deletion.requests import request_document_deletion
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.jobs import DeadLetterFilter, Queue, SubjectKind
from ragsvc.domain.search import SearchMode
from ragsvc.errors.requests import DocumentDeleting, IngestionActive, NoReplacement, NotFound, ReplayRunning
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected, LeaseLost
from ragsvc.ingestion.reingestion import request_reingestion
from ragsvc.ingestion.stale_builds import sweep_builds
from ragsvc.jobs import dead_letters, lifecycle, retry_policy
from ragsvc.jobs.lease import Lease
from ragsvc.retrieval.search import search
from ragsvc.uploads.documents import receive_content
from tests.support.documents.builds import build, finish, ready_document, sentences_of, write_unseen
from tests.support.documents.documents import job_of, reload, stream
from tests.support.polling import until

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

# Every chunk contains the search term, and the two versions have no chunk in common.
LONG = tuple(f"A kettle boils in {minutes} minutes." for minutes in range(8))
SHORT = tuple(f"A kettle whistles {times} times." for times in range(3))
ROUNDS = 12
REFUSALS = (DocumentDeleting, IngestionActive, NoReplacement, NotFound)


async def test_readers_see_the_old_version_or_the_new_one(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace, sentences=LONG)
    seen: set[tuple[str, ...]] = set()
    ended = asyncio.Event()

    async def read_search(mode: SearchMode) -> None:
        while not ended.is_set():
            hits = (await search(resources, workspace.id, query="kettle", limit=50, mode=mode)).hits
            assert len({(hit.build_id, hit.version) for hit in hits}) == 1
            seen.add(tuple(hit.text for hit in sorted(hits, key=lambda hit: hit.ordinal)))

    async def read_chunks() -> None:
        while not ended.is_set():
            async with resources.pool.acquire() as conn:
                listed = await chunks.select_chunks(conn, workspace.id, document.id, limit=50)
            seen.add(tuple(one.text for one in listed))

    async def write() -> None:
        for turn in range(ROUNDS):
            await request_reingestion(resources, workspace.id, document.id, chunking=None)
            await build(resources, document, sentences=(SHORT, LONG)[turn % 2])
            await sweep_builds(resources)
        ended.set()

    async with asyncio.TaskGroup() as group:
        for mode in SearchMode:
            group.create_task(read_search(mode))
        group.create_task(read_chunks())
        group.create_task(write())
    assert seen == {LONG, SHORT}
    assert (await reload(resources, document)).version == 1 + ROUNDS


class Race:
    """All operations on one document, which can run concurrently and be cancelled."""

    def __init__(self, resources: Resources, workspace: Workspace, document: Document, seed: int) -> None:
        self.resources = resources
        self.workspace = workspace
        self.document = document
        self._random = random.Random(seed)  # noqa: S311 - reproducible races
        self._files = 0

    async def reingest(self) -> None:
        await request_reingestion(self.resources, self.workspace.id, self.document.id, chunking=None)

    async def discard_replacement(self) -> None:
        await request_reingestion(
            self.resources, self.workspace.id, self.document.id, chunking=None, discard_replacement=True
        )

    async def fail(self) -> None:
        """Make the queued ingestion fail permanently."""
        job = await lifecycle.claim(
            self.resources.pool,
            (await job_of(self.resources, self.document)).id,
            queue=Queue.INGESTION,
            owner="racer",
            lease_s=60,
        )
        assert job is not None
        failure = retry_policy.classify(DocumentRejected(DocumentErrorCode.CORRUPT, "damaged"))
        assert await lifecycle.fail(self.resources.pool, job, failure, settings=self.resources.settings) is not None

    async def replay(self) -> None:
        await dead_letters.replay(self.resources, Queue.INGESTION, DeadLetterFilter())

    async def replace(self) -> None:
        self._files += 1
        filename = f"{self._files}.txt"
        queued = await receive_content(
            self.resources,
            self.workspace,
            self.document.id,
            stream(filename.encode()),
            filename=filename,
            mime_type="text/plain",
            late_attributes=lambda: None,
        )
        assert queued.status is DocumentStatus.QUEUED

    async def delete(self) -> None:
        await request_document_deletion(self.resources, self.workspace.id, self.document.id, purge_file=True)

    async def sweep(self) -> None:
        await sweep_builds(self.resources)
        await sweep_released_files(self.resources)

    async def work(self) -> None:
        """Run the document's active jobs, if any."""
        for queue in Queue:
            async with self.resources.pool.acquire() as conn:
                waiting = await jobs.select_active_job(
                    conn,
                    self.workspace.id,
                    queue=queue,
                    subject_kind=SubjectKind.DOCUMENT,
                    subject_id=self.document.id,
                )
            job = waiting and await lifecycle.claim(
                self.resources.pool, waiting.id, queue=waiting.queue, owner="racer", lease_s=0.3
            )
            if job is None:
                continue
            if queue is Queue.DELETION:
                await delete(self.resources, Lease(self.resources.pool, job, self.resources.settings))
                continue
            writing = await write_unseen(self.resources, self.document, job)
            await finish(writing, sentences=sentences_of(writing.file.filename))

    async def once(self) -> None:
        """Start several operations at once, and cancel some of the workers."""
        weighted = [self.reingest, self.replace, self.sweep, self.work, self.work, self.work]
        asked = [asyncio.ensure_future(self._random.choice(weighted)()) for _ in range(6)]
        doomed = [asyncio.ensure_future(self.work()) for _ in range(2)]
        await asyncio.sleep(self._random.uniform(0, 0.05))
        for task in doomed:
            task.cancel()
        for outcome in await asyncio.gather(*asked, *doomed, return_exceptions=True):
            if outcome is not None and not isinstance(outcome, (*REFUSALS, LeaseLost, asyncio.CancelledError)):
                raise outcome

    async def settle(self) -> None:
        """Run jobs until none are left, then sweep."""

        async def all_jobs_ended() -> bool:
            await self.work()
            await self.sweep()
            async with self.resources.pool.acquire() as conn:
                left = await conn.fetchval("SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')")
            return bool(left == 0)

        await until(all_jobs_ended, timeout_s=60, what="the end of every job")
        await self.sweep()


async def rows_of(resources: Resources) -> dict[str, int]:
    """Return the number of rows in each table."""
    tables = ("documents", "files", "chunk_text", resources.space.table, "canonical_text")
    async with resources.pool.acquire() as conn:
        return {
            table: await conn.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own table names
            for table in tables
        }


async def texts_of(resources: Resources, workspace_id: UUID, document_id: UUID) -> list[str]:
    async with resources.pool.acquire() as conn:
        return [one.text for one in await chunks.select_chunks(conn, workspace_id, document_id, limit=50)]


@pytest.mark.parametrize("deletes", [False, True], ids=["retained", "deleted"])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(100, 150))])
async def test_racing_requests_end_in_a_consistent_state(
    resources: Resources, workspace: Workspace, seed: int, *, deletes: bool
) -> None:
    """Check all rows and objects after the race."""
    document = await ready_document(resources, workspace, sentences=sentences_of("kettles.txt"))
    race = Race(resources, workspace, document, seed)
    for _ in range(4):
        await race.once()
    if deletes:
        await asyncio.gather(race.delete(), race.once())
    await race.settle()
    objects = await resources.storage.count_objects(workspace.bucket)
    if deletes:
        assert await rows_of(resources) == dict.fromkeys(await rows_of(resources), 0)
        assert objects == 0
        return
    after = await reload(resources, document)
    async with resources.pool.acquire() as conn:
        newest = await conn.fetchval("SELECT filename FROM files ORDER BY id DESC LIMIT 1")
        assert (await documents.select_usage(conn, workspace.id)).storage_bytes == after.size_bytes
    assert (after.status, after.filename, after.pending_file_id) == (DocumentStatus.READY, newest, None)
    assert await texts_of(resources, workspace.id, document.id) == list(sentences_of(newest))
    rows = await rows_of(resources)
    assert rows == {**rows, "documents": 1, "files": 1, "chunk_text": 2, resources.space.table: 2}
    assert rows["canonical_text"] == after.version
    assert objects == 1


@pytest.mark.parametrize("deletes", [False, True], ids=["retained", "deleted"])
async def test_discarding_a_failed_file_races_with_everything_else(
    resources: Resources, workspace: Workspace, *, deletes: bool
) -> None:
    document = await ready_document(resources, workspace, sentences=sentences_of("kettles.txt"))
    for seed in range(6):
        race = Race(resources, workspace, document, seed)
        await race.replace()
        await race.fail()
        asked = [
            race.discard_replacement(),
            race.replace(),
            race.replay(),
            race.work(),
            race.discard_replacement(),
            race.replay(),
        ]
        asked += [race.delete()] if deletes and seed == 5 else []
        random.Random(seed).shuffle(asked)  # noqa: S311 - reproducible races
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if outcome is not None and not isinstance(outcome, (*REFUSALS, LeaseLost, ReplayRunning)):
                raise outcome
        await race.settle()
        rows = await rows_of(resources)
        if deletes and seed == 5:
            assert rows == dict.fromkeys(rows, 0)
            assert await resources.storage.count_objects(workspace.bucket) == 0
            return
        after = await reload(resources, document)
        assert (after.status, after.pending_file_id) == (DocumentStatus.READY, None)
        assert await texts_of(resources, workspace.id, document.id) == list(sentences_of(after.filename))
        assert (rows["files"], rows["chunk_text"]) == (1, 2)
        assert await resources.storage.count_objects(workspace.bucket) == 1
