"""Deletions hold against late writers and other clocks, remove replaced files, and always reach an end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from ragsvc.bulk.requests import request_bulk_operation
from ragsvc.db import bulk_operations, documents, embedding_spaces, leftovers
from ragsvc.deletion.requests import (
    request_collection_deletion,
    request_document_deletion,
    request_workspace_deletion,
)
from ragsvc.domain.bulk import BulkAction
from ragsvc.domain.deletions import DeletionStatus
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.errors.requests import DeletionNotDiscardable, Unauthorized
from ragsvc.errors.work import LeaseLost
from ragsvc.jobs import dead_letters, lifecycle, retry_policy
from ragsvc.jobs.lease import Lease
from ragsvc.retrieval.filters import compile_filter
from ragsvc.uploads.documents import receive_content
from tests.support.documents.builds import build, make_chunks, make_vectors, ready_document, write_unseen
from tests.support.documents.deletions import claim_deletion_job, deletion_job, load_deletion, run_deletion
from tests.support.documents.documents import accept, job_of, reload, reload_job, stream
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


async def count_left(resources: Resources, workspace: Workspace) -> dict[str, int]:
    async with resources.pool.acquire() as conn:
        return await leftovers.count_leftovers(
            conn,
            workspace.id,
            document_id=None,
            collection_id=None,
            spaces=await embedding_spaces.select_embedding_spaces(conn),
        )


async def test_an_upload_that_ends_after_the_deletion_of_its_workspace_is_refused(
    resources: Resources, workspace: Workspace
) -> None:
    await request_workspace_deletion(resources, workspace.id)
    with pytest.raises(Unauthorized):
        await accept(resources, workspace)


async def test_a_workspace_is_closed_only_after_the_uploads_that_have_pinned_it(
    resources: Resources, workspace: Workspace
) -> None:
    async with resources.pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT FROM workspaces WHERE id = $1 FOR KEY SHARE", workspace.id)
        closing = asyncio.create_task(request_workspace_deletion(resources, workspace.id))

        async def is_waiting() -> bool:
            async with resources.pool.acquire() as other:
                waiting: int = await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return waiting > 0

        await until(is_waiting)
        assert not closing.done()
    assert (await closing).status is DeletionStatus.PENDING


async def test_an_ingestion_that_runs_while_its_workspace_is_deleted_leaves_nothing(
    resources: Resources, workspace: Workspace
) -> None:
    document = await accept(resources, workspace)
    queued = await job_of(resources, document)
    job = await lifecycle.claim(resources.pool, queued.id, queue=queued.queue, owner="ingesting", lease_s=60)
    assert job is not None
    late = await write_unseen(resources, document, job)
    deletion = await request_workspace_deletion(resources, workspace.id)
    await run_deletion(resources, deletion)
    chunks = make_chunks()
    with pytest.raises(LeaseLost):
        await late.build.write_chunks(chunks, make_vectors(chunks, resources.space.dimensions))
    assert set((await count_left(resources, workspace)).values()) == {0}


async def test_the_file_of_a_replaced_version_is_purged_with_its_document(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    await receive_content(
        resources,
        workspace,
        document.id,
        stream(b"Kettles whistle."),
        filename="newer.txt",
        mime_type="text/plain",
        late_attributes=lambda: None,
    )
    await build(resources, document)
    assert await resources.storage.count_objects(workspace.bucket) == 2
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    receipt = await run_deletion(resources, deletion)
    assert next(store for store in receipt.stores if store.store == "objects").removed == 2
    assert await resources.storage.count_objects(workspace.bucket) == 0


async def test_a_bulk_deletion_spares_a_document_that_came_later_with_an_older_id(
    resources: Resources, workspace: Workspace
) -> None:
    before = await ready_document(resources, workspace)
    operation = await request_bulk_operation(resources, workspace.id, BulkAction.DELETE, operation_id=new_id())
    after = await accept(resources, workspace, b"Later.")
    # The API process that accepted it has a clock that is years behind.
    older_id, everything = UUID(int=1), compile_filter(None)
    async with resources.pool.acquire() as conn, conn.transaction():
        await conn.execute("UPDATE documents SET id = $2 WHERE id = $1", after.id, older_id)
        matching = await bulk_operations.select_matching(conn, operation, everything, after=None, limit=10)
    assert matching == [before.id]


async def test_a_collection_of_any_size_is_hidden_by_one_mark(resources: Resources, workspace: Workspace) -> None:
    ready = [await ready_document(resources, workspace, sentences=(f"Kettle {n}.", "Boil.")) for n in range(3)]
    ids = [document.id for document in ready]
    deletion = await request_collection_deletion(resources, workspace.id, ready[0].collection_id)
    async with resources.pool.acquire() as conn:
        stored = await conn.fetch("SELECT status FROM documents WHERE workspace_id = $1", workspace.id)
        assert {row["status"] for row in stored} == {"ready"}
        shown = [await documents.select_document(conn, workspace.id, one) for one in ids]
    assert {one.status for one in shown if one} == {DocumentStatus.DELETING}
    assert {one.deletion_id for one in shown if one} == {deletion.id}
    receipt = await run_deletion(resources, deletion)
    assert next(store for store in receipt.stores if store.store == "documents").removed == 3


async def test_a_failed_deletion_is_started_again_and_cannot_be_discarded(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    claimed = await claim_deletion_job(resources, deletion)
    dead = await lifecycle.fail(resources.pool, claimed, retry_policy.crash_loop(claimed), settings=resources.settings)
    assert dead is not None
    assert (await load_deletion(resources, deletion)).status is DeletionStatus.FAILED
    with pytest.raises(DeletionNotDiscardable):
        await dead_letters.discard(resources, Queue.DELETION, dead.id, None)
    again = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    assert (again.id, again.status) == (deletion.id, DeletionStatus.PENDING)
    receipt = await run_deletion(resources, deletion)
    assert receipt.status is DeletionStatus.COMPLETED


async def test_progress_of_a_deletion_resets_its_rescues_and_its_time_limit(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    job = await claim_deletion_job(resources, deletion)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET rescues = 3 WHERE id = $1", job.id)
    await Lease(resources.pool, job, resources.settings).advance(0.5)
    assert (await reload_job(resources, job)).rescues == 0


async def test_a_job_whose_subject_is_gone_is_cancelled(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    job = await deletion_job(resources, deletion)
    claimed = await claim_deletion_job(resources, deletion)
    assert await lifecycle.cancel(resources.pool, claimed)
    assert (await reload_job(resources, job)).status is JobStatus.CANCELLED
    assert (await reload(resources, document)).status is DocumentStatus.DELETING
