"""Dead letters: listed once, replayed once, and removed when they are no longer dead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
import pytest

from ragsvc.db import dead_jobs
from ragsvc.deletion.requests import request_document_deletion
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import DeadLetterFilter, IngestPayload, JobStatus, Queue
from ragsvc.errors.requests import ReplayRunning
from ragsvc.errors.work import DocumentRejected
from ragsvc.jobs import dead_letters, lifecycle, retry_policy
from ragsvc.jobs.dead_letters import ReplayResult
from ragsvc.jobs.sweeper import sweep_jobs
from ragsvc.queue.dead_letter_list import DeadLetterList
from tests.support.documents.documents import accept, job_of, reload, reload_job
from tests.support.servers.redis import command

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

ALL = DeadLetterFilter()
ID = UUID("0199c1f2-a3b4-7c5d-8e6f-0a1b2c3d4e5f")


async def bury(resources: Resources, job: Job, *, code: str = "corrupt") -> Job:
    claimed = await lifecycle.claim(resources.pool, job.id, queue=job.queue, owner="worker-1", lease_s=30)
    assert claimed is not None
    failure = retry_policy.classify(DocumentRejected(code, "postgresql://me:hunter2@db/x cannot be parsed"))
    dead = await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    assert dead is not None
    await dead_letters.post(resources, dead)
    return dead


async def listed(resources: Resources) -> list[dict[str, object]]:
    key = f"{resources.settings.stores.queue_prefix}:ingestion:dlq"
    return [orjson.loads(entry) for entry in await command(resources.redis, "LRANGE", key, 0, -1)]


@pytest.fixture
async def dead(resources: Resources, job: Job) -> Job:
    return await bury(resources, job)


async def test_an_entry_has_the_documented_fields_with_public_ids_and_no_secret(
    resources: Resources, dead: Job
) -> None:
    (entry,) = await listed(resources)
    assert set(entry) == {
        *("v", "entry_id", "job_id", "queue", "kind", "document_id", "workspace_id", "args", "error", "attempts"),
        *("rescues", "stage", "enqueued_at", "first_failed_at", "last_failed_at", "worker", "app_version"),
        *("trace_id", "replay_count"),
    }
    assert entry["entry_id"] == f"job_{dead.id.hex}:{dead.generation}"
    assert entry["job_id"] == f"job_{dead.id.hex}"
    assert entry["document_id"] == f"doc_{dead.subject_id.hex}"
    assert entry["workspace_id"] == f"ws_{dead.workspace_id.hex}"
    assert entry["args"] == {"file_id": format_id("file", IngestPayload.from_json(dead.payload).file_id)}
    assert b"hunter2" not in orjson.dumps(entry)
    assert entry["error"]["code"] == "corrupt"  # type: ignore[index]


async def test_an_entry_posted_twice_is_listed_once(resources: Resources, dead: Job) -> None:
    await dead_letters.post(resources, dead)
    assert len(await listed(resources)) == 1


async def test_the_list_is_capped_to_the_newest_entries(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragsvc.queue.dead_letter_list.CAP", 2)
    jobs = [await bury(resources, await job_of(resources, await accept(resources, workspace))) for _ in range(3)]
    assert [entry["job_id"] for entry in await listed(resources)] == [
        format_id("job", job.id) for job in (jobs[2], jobs[1])
    ]
    ids = await command(resources.redis, "SCARD", f"{resources.settings.stores.queue_prefix}:ingestion:dlq:ids")
    assert ids == 2


async def test_a_flushed_list_is_filled_again(resources: Resources, dead: Job) -> None:
    prefix = resources.settings.stores.queue_prefix
    await resources.redis.delete(f"{prefix}:ingestion:dlq", f"{prefix}:ingestion:dlq:ids")
    await sweep_jobs(resources)
    assert [entry["job_id"] for entry in await listed(resources)] == [format_id("job", dead.id)]


async def test_an_entry_of_a_discarded_job_is_removed_from_the_list(resources: Resources, dead: Job) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET status = 'discarded' WHERE id = $1", dead.id)
    await sweep_jobs(resources)
    assert await listed(resources) == []


@pytest.mark.parametrize("max_removals", [100, 0], ids=["removed", "rebuilt"])
async def test_an_entry_of_an_older_version_is_replaced(
    resources: Resources, dead: Job, monkeypatch: pytest.MonkeyPatch, max_removals: int
) -> None:
    monkeypatch.setattr("ragsvc.jobs.dead_letters.MAX_REMOVALS", max_removals)
    key = f"{resources.settings.stores.queue_prefix}:ingestion:dlq"
    await resources.redis.delete(key, f"{key}:ids")
    old = {
        **dead_letters.to_entry(dead),
        "entry_id": f"{dead.id}:{dead.generation}",
        "job_id": str(dead.id),
        "document_id": str(dead.subject_id),
        "workspace_id": str(dead.workspace_id),
        "args": dead.payload,
    }
    await DeadLetterList(resources.redis, resources.settings, Queue.INGESTION).push([old])
    await sweep_jobs(resources)
    (entry,) = await listed(resources)
    assert entry == orjson.loads(orjson.dumps(dead_letters.to_entry(dead)))
    assert await command(resources.redis, "SMEMBERS", f"{key}:ids") == {dead_letters.entry_id(dead).encode()}


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (f"job_{ID.hex}:3", (ID, 3)),
        (f"job_{ID.hex}", (ID, None)),
        (f"doc_{ID.hex}", (ID, None)),
        (f"dlv_{ID.hex}", (ID, None)),
        (f"{ID}:3", (ID, 3)),
        (str(ID), (ID, None)),
    ],
)
def test_a_dead_letter_is_selected_by_entry_job_or_subject(text: str, parsed: tuple[UUID, int | None]) -> None:
    assert dead_letters.parse_entry_id(text) == parsed


@pytest.mark.parametrize("text", ["", "nonsense", "job_", f"run_{ID.hex}", f"job_{ID.hex}:x", f"_{ID.hex[1:]}"])
def test_other_text_selects_no_dead_letter(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        dead_letters.parse_entry_id(text)


async def test_a_replay_queues_the_job_as_new(resources: Resources, document: Document, dead: Job) -> None:
    result = await dead_letters.replay(resources, Queue.INGESTION, ALL)
    assert result == ReplayResult(matched=1, replayed=1, superseded=0, dry_run=False)
    job = await reload_job(resources, dead)
    assert (job.status, job.attempts, job.replay_count) == (JobStatus.QUEUED, 0, 1)
    assert job.generation == dead.generation + 1
    assert await listed(resources) == []
    assert (await reload(resources, document)).status is DocumentStatus.QUEUED


async def test_a_dry_run_replays_nothing(resources: Resources, dead: Job) -> None:
    result = await dead_letters.replay(resources, Queue.INGESTION, ALL, dry_run=True)
    assert (result.matched, result.replayed) == (1, 0)
    assert (await reload_job(resources, dead)).status is JobStatus.DEAD


async def test_concurrent_replays_requeue_a_job_only_once(resources: Resources, dead: Job) -> None:
    results = await asyncio.gather(
        *(dead_letters.replay(resources, Queue.INGESTION, ALL) for _ in range(3)), return_exceptions=True
    )
    done = [result for result in results if isinstance(result, ReplayResult)]
    assert sum(result.replayed for result in done) == 1
    assert all(isinstance(result, ReplayResult | ReplayRunning) for result in results)
    assert (await reload_job(resources, dead)).replay_count == 1


async def test_dead_letters_are_selected_by_code_workspace_and_id(resources: Resources, dead: Job) -> None:
    for selection, matched in [
        (DeadLetterFilter(code="encrypted"), 0),
        (DeadLetterFilter(workspace_id=dead.subject_id), 0),
        (DeadLetterFilter(code="corrupt", workspace_id=dead.workspace_id), 1),
        (DeadLetterFilter(ids=(dead.id,)), 1),
        (DeadLetterFilter(ids=(dead.subject_id,)), 1),
        (DeadLetterFilter(ids=(dead.workspace_id,)), 0),
    ]:
        result = await dead_letters.replay(resources, Queue.INGESTION, selection, dry_run=True)
        assert result.matched == matched, selection


async def test_a_dead_letter_of_a_deleted_document_is_superseded(
    resources: Resources, document: Document, dead: Job
) -> None:
    await request_document_deletion(resources, document.workspace_id, document.id, purge_file=True)
    result = await dead_letters.replay(resources, Queue.INGESTION, ALL)
    assert (result.replayed, result.superseded) == (0, 1)
    assert (await reload_job(resources, dead)).status is JobStatus.SUPERSEDED


async def test_a_discarded_dead_letter_is_removed_and_cannot_be_discarded_again(
    resources: Resources, dead: Job
) -> None:
    assert await dead_letters.discard(resources, Queue.INGESTION, dead.id, dead.generation)
    assert (await reload_job(resources, dead)).status is JobStatus.DISCARDED
    assert await listed(resources) == []
    assert not await dead_letters.discard(resources, Queue.INGESTION, dead.id, dead.generation)


async def test_a_dead_letter_of_a_later_generation_is_not_changed(resources: Resources, dead: Job) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET generation = generation + 1 WHERE id = $1", dead.id)
        for status in (JobStatus.DISCARDED, JobStatus.SUPERSEDED):
            assert not await dead_jobs.update_dead_status(conn, dead, status=status)
    assert (await reload_job(resources, dead)).status is JobStatus.DEAD


async def test_dead_letters_are_counted_by_code(resources: Resources, workspace: Workspace, dead: Job) -> None:
    await bury(resources, await job_of(resources, await accept(resources, workspace)), code="encrypted")
    assert await dead_letters.count_dead_letters(resources, Queue.INGESTION) == {"corrupt": 1, "encrypted": 1}
    assert dead.error is not None
