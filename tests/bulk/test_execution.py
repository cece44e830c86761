"""A bulk operation queues one job for every matching document, at whatever point its worker dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ragsvc.bulk.execution import execute_bulk_operation
from ragsvc.bulk.requests import request_bulk_operation
from ragsvc.db import bulk_operations, documents, jobs
from ragsvc.deletion.requests import request_document_deletion
from ragsvc.domain.bulk import BulkAction, BulkStatus
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import JobStatus, Queue, SubjectKind
from ragsvc.jobs import lifecycle
from ragsvc.jobs.lease import Lease
from ragsvc.retrieval.filters import Comparator, Comparison
from ragsvc.workers.deletion import delete_subject
from tests.support.documents.builds import ready_document
from tests.support.documents.documents import accept, job_of, reload

if TYPE_CHECKING:
    from ragsvc.domain.bulk import BulkOperation
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.retrieval.filters import Filter

OPERATIONS = Comparison(Comparator.EQ, "team", "operations")


class Killed(BaseException):
    """Simulates the death of the process."""


async def documents_of(resources: Resources, workspace: Workspace, *teams: str) -> list[Document]:
    """Create ready documents, one for each team."""
    created = []
    for number, team in enumerate(teams):
        document = await ready_document(resources, workspace, sentences=(f"Kettle {number}.", "It boils."))
        async with resources.pool.acquire() as conn:
            await documents.update_document_attributes(conn, workspace.id, document.id, attributes={"team": team})
        created.append(await reload(resources, document))
    return created


async def request_operation(
    resources: Resources, workspace: Workspace, action: BulkAction, filters: Filter | None = None
) -> BulkOperation:
    return await request_bulk_operation(resources, workspace.id, action, operation_id=new_id(), filters=filters)


async def job_for(resources: Resources, operation: BulkOperation) -> Job:
    async with resources.pool.acquire() as conn:
        job = await jobs.select_active_job(
            conn,
            operation.workspace_id,
            queue=Queue.DELETION,
            subject_kind=SubjectKind.BULK,
            subject_id=operation.id,
        )
    assert job is not None
    return job


def worker_context(resources: Resources) -> dict[str, object]:
    return {"resources": resources, "queue": Queue.DELETION, "owner": "test", "stopping": asyncio.Event()}


async def run_operation(resources: Resources, operation: BulkOperation) -> BulkOperation:
    """Execute the operation as the worker does, and return its state afterwards."""
    job = await job_for(resources, operation)
    await delete_subject(worker_context(resources), str(job.id))
    async with resources.pool.acquire() as conn:
        found = await bulk_operations.select_bulk_operation(conn, operation.workspace_id, operation.id)
        done = await jobs.select_job(conn, job.id)
    assert found is not None
    assert done is not None
    assert done.status is JobStatus.DONE
    return found


async def jobs_of(resources: Resources, document: Document, queue: Queue) -> int:
    async with resources.pool.acquire() as conn:
        counted: int = await conn.fetchval(
            "SELECT count(*) FROM jobs WHERE subject_id = $1 AND queue = $2", document.id, queue
        )
    return counted


async def test_matching_documents_are_deleted_each_with_its_own_receipt(
    resources: Resources, workspace: Workspace
) -> None:
    theirs, mine, also = await documents_of(resources, workspace, "hr", "operations", "operations")
    operation = await request_operation(resources, workspace, BulkAction.DELETE, OPERATIONS)
    assert (operation.status, operation.matched) == (BulkStatus.PENDING, 2)
    done = await run_operation(resources, operation)
    assert (done.status, done.accepted, done.skipped) == (BulkStatus.COMPLETED, 2, 0)
    assert done.completed_at is not None
    for document in (mine, also):
        assert (await reload(resources, document)).status is DocumentStatus.DELETING
        assert (await job_of(resources, document, Queue.DELETION)).payload["deletion_id"]
    assert (await reload(resources, theirs)).status is DocumentStatus.READY


async def test_a_document_that_is_being_ingested_is_skipped(resources: Resources, workspace: Workspace) -> None:
    ready, *_rest = await documents_of(resources, workspace, "operations")
    busy = await accept(resources, workspace, b"Another kettle.")
    operation = await request_operation(resources, workspace, BulkAction.REINGEST)
    assert operation.matched == 2
    done = await run_operation(resources, operation)
    assert (done.accepted, done.skipped) == (1, 1)
    assert (await reload(resources, ready)).status is DocumentStatus.QUEUED
    assert await jobs_of(resources, busy, Queue.INGESTION) == 1


async def test_documents_added_later_are_not_affected(resources: Resources, workspace: Workspace) -> None:
    await documents_of(resources, workspace, "operations")
    operation = await request_operation(resources, workspace, BulkAction.DELETE)
    late = await accept(resources, workspace, b"A late kettle.")
    done = await run_operation(resources, operation)
    assert (done.accepted, done.skipped) == (1, 0)
    assert (await reload(resources, late)).status is DocumentStatus.QUEUED


async def test_a_document_deleted_concurrently_is_deleted_once(resources: Resources, workspace: Workspace) -> None:
    first, second = await documents_of(resources, workspace, "operations", "operations")
    operation = await request_operation(resources, workspace, BulkAction.DELETE, OPERATIONS)
    await request_document_deletion(resources, workspace.id, first.id, purge_file=True)
    done = await run_operation(resources, operation)
    assert (done.matched, done.accepted, done.skipped) == (2, 1, 1)
    assert [await jobs_of(resources, document, Queue.DELETION) for document in (first, second)] == [1, 1]


@pytest.mark.parametrize("action", list(BulkAction))
@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("is_committed", [False, True])
async def test_a_worker_that_dies_at_a_document_skips_none_and_queues_none_twice(
    resources: Resources,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    action: BulkAction,
    *,
    step: int,
    is_committed: bool,
) -> None:
    created = await documents_of(resources, workspace, *["operations"] * 3)
    operation = await request_operation(resources, workspace, action, OPERATIONS)
    left = step

    def dies() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    class DyingNotifier:
        """Dies after the commit, before the worker is notified."""

        async def notify(self, job: Job) -> None:
            if dies():
                raise Killed
            await resources.notifier.notify(job)

    real = bulk_operations.advance_bulk_operation

    async def advance(*arguments: Any, **options: Any) -> None:
        await real(*arguments, **options)
        if dies():
            raise Killed

    with monkeypatch.context() as patches:
        if not is_committed:
            patches.setattr(bulk_operations, "advance_bulk_operation", advance)
        dying: Any = replace(resources, notifier=cast("Any", DyingNotifier())) if is_committed else resources
        queued = await job_for(resources, operation)
        job = await lifecycle.claim(resources.pool, queued.id, queue=queued.queue, owner="mortal", lease_s=60)
        assert job is not None
        with pytest.raises(Killed):
            await execute_bulk_operation(dying, Lease(resources.pool, job, resources.settings))
        await lifecycle.hand_back(resources.pool, job)
    done = await run_operation(resources, operation)
    assert (done.status, done.accepted, done.skipped) == (BulkStatus.COMPLETED, 3, 0)
    queue = Queue.DELETION if action is BulkAction.DELETE else Queue.INGESTION
    before = 0 if action is BulkAction.DELETE else 1
    assert [await jobs_of(resources, document, queue) - before for document in created] == [1, 1, 1]


async def test_an_operation_whose_workspace_is_deleted_ends_without_error(
    resources: Resources, workspace: Workspace
) -> None:
    operation = await request_operation(resources, workspace, BulkAction.DELETE)
    job = await job_for(resources, operation)
    async with resources.pool.acquire() as conn:
        await conn.execute("DELETE FROM bulk_operations WHERE id = $1", operation.id)
    await delete_subject(worker_context(resources), str(job.id))
    async with resources.pool.acquire() as conn:
        ended = await jobs.select_job(conn, job.id)
    assert ended is not None
    assert ended.status is JobStatus.DONE
