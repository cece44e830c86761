"""Deletions hide their subject at once, remove it from every store, and verify that nothing remains."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import (
    canonical_text,
    chunks,
    collections,
    deletion_receipts,
    documents,
    files,
    idempotency_keys,
    workspaces,
)
from ragsvc.deletion.requests import (
    request_collection_deletion,
    request_document_deletion,
    request_workspace_deletion,
)
from ragsvc.domain.deletions import DeletionStatus
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.idempotency import Call
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import JobStatus, Queue, SubjectKind
from ragsvc.domain.usage import EmbeddingUsage
from ragsvc.errors.requests import NotFound
from ragsvc.errors.work import LeaseLost, TransientFailure
from ragsvc.ingestion.builds import Build
from ragsvc.jobs import lifecycle
from ragsvc.jobs.lease import Lease
from ragsvc.uploads.documents import attach_file
from tests.support.documents.builds import make_chunks, make_vectors, ready_document
from tests.support.documents.deletions import load_deletion, removed_counts, run_deletion
from tests.support.documents.documents import accept, job_of, reload, reload_job
from tests.support.usage import embeddings_of
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


async def claim_ingestion(resources: Resources, document: Document) -> Job:
    """Claim the document's ingestion job, as a worker does."""
    job = await lifecycle.claim(
        resources.pool, (await job_of(resources, document)).id, queue=Queue.INGESTION, owner="ingesting", lease_s=60
    )
    assert job is not None
    return job


async def test_the_receipt_of_a_document_counts_all_removals(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    assert deletion.status is DeletionStatus.PENDING
    done = await run_deletion(resources, deletion)
    assert done.status is DeletionStatus.COMPLETED
    assert done.verified_at is not None
    stores = {store.store: store for store in done.stores}
    assert removed_counts(done) == {
        "documents": 1,
        "chunks": 3,
        "vectors": 3,
        "canonical_text": 1,
        "files": 1,
        "objects": 1,
        "jobs": 1,
        "uploads": 1,
    }
    assert {store.remaining for store in done.stores} == {0}
    assert stores["embedding_cache"].retained_until is not None


async def test_stored_idempotent_responses_are_blanked(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    call = Call(workspace.id, "a key", call_hash=bytes(32), body_hash=bytes(32))
    async with resources.pool.acquire() as conn:
        claim = await idempotency_keys.claim_call(
            conn, call, token=new_id(), resource_id=document.id, seed=bytes(32), lease_s=60
        )
        assert claim is not None
        await idempotency_keys.store_response(
            conn, claim, status=202, headers={}, body=b"kettles.txt", document_ids=[document.id]
        )
    done = await run_deletion(
        resources, await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    )
    assert {store.store: store.redacted for store in done.stores}["idempotent_answers"] == 1
    async with resources.pool.acquire() as conn:
        stored = await idempotency_keys.select_stored_response(conn, call)
    assert stored is not None
    assert (stored.status, stored.body) == (202, None)


async def test_a_deleted_document_leaves_no_data(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    await run_deletion(
        resources, await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    )
    async with resources.pool.acquire() as conn:
        assert await documents.select_document(conn, workspace.id, document.id) is None
        assert await files.select_file(conn, workspace.id, document.file_id) is None
        assert await conn.fetchval("SELECT count(*) FROM chunk_text") == 0
        assert await canonical_text.select_text_slice(conn, workspace.id, document.id, version=1) is None
        assert await conn.fetchval("SELECT count(*) FROM chunk_vec_1") == 0
    assert await resources.storage.count_objects(workspace.bucket) == 0


async def test_other_documents_are_unchanged(resources: Resources, workspace: Workspace) -> None:
    deleted = await ready_document(resources, workspace)
    other = await ready_document(resources, workspace)
    await run_deletion(resources, await request_document_deletion(resources, workspace.id, deleted.id, purge_file=True))
    assert (await reload(resources, other)).status is DocumentStatus.READY
    assert other.active_build is not None
    async with resources.pool.acquire() as conn:
        left = await chunks.select_chunks(conn, workspace.id, other.id, limit=10)
    assert len(left) == 3
    assert await resources.storage.count_objects(workspace.bucket) == 1


async def test_concurrent_requests_create_one_deletion(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    deletions = await asyncio.gather(
        *(request_document_deletion(resources, workspace.id, document.id, purge_file=True) for _ in range(5))
    )
    assert len({deletion.id for deletion in deletions}) == 1
    assert (await reload(resources, document)).status is DocumentStatus.DELETING
    done = await run_deletion(resources, deletions[0])
    assert await request_document_deletion(resources, workspace.id, document.id, purge_file=True) == done


async def test_a_document_of_another_workspace_is_not_found(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    other = await create_workspace(resources.pool, resources.storage, resources.settings)
    with pytest.raises(NotFound):
        await request_document_deletion(resources, other.id, document.id, purge_file=True)
    assert (await reload(resources, document)).status is DocumentStatus.READY


async def test_a_deletion_cancels_the_ingestion_at_its_next_write(resources: Resources, workspace: Workspace) -> None:
    document = await accept(resources, workspace)
    job = await claim_ingestion(resources, document)
    build = Build(resources, Lease(resources.pool, job, resources.settings), document)
    await build.write_text("half a document")
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    pieces = make_chunks()
    with pytest.raises(LeaseLost):
        await build.write_chunks(pieces, make_vectors(pieces, resources.space.dimensions))
    assert (await reload_job(resources, job)).status is JobStatus.CANCELLED
    done = await run_deletion(resources, deletion)
    assert removed_counts(done)["canonical_text"] == 1


async def test_a_killed_deletion_resumes(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    async with resources.pool.acquire() as conn, conn.transaction():
        # The killed worker removed one batch, counted in the same transaction.
        removed = await chunks.delete_chunk_texts(conn, workspace.id, [document.id], limit=2)
        await deletion_receipts.add_removed(conn, workspace.id, deletion.id, store="chunks", count=removed)
    done = await run_deletion(resources, deletion)
    assert removed_counts(done)["chunks"] == 3


async def test_a_file_used_by_another_document_is_retained(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    other_id = new_id()
    async with resources.pool.acquire() as conn:
        await collections.insert_collection(conn, workspace.id, other_id, name="other")
    twin = await attach_file(resources, workspace, document.file_id, collection_id=other_id, attributes={})
    await run_deletion(
        resources, await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    )
    assert await resources.storage.count_objects(workspace.bucket) == 1
    last = await run_deletion(
        resources, await request_document_deletion(resources, workspace.id, twin.id, purge_file=True)
    )
    assert removed_counts(last)["objects"] == 1
    assert await resources.storage.count_objects(workspace.bucket) == 0
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM files") == 0


async def test_concurrent_deletions_of_both_documents_of_a_file_remove_it(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    other_id = new_id()
    async with resources.pool.acquire() as conn:
        await collections.insert_collection(conn, workspace.id, other_id, name="other")
    twin = await attach_file(resources, workspace, document.file_id, collection_id=other_id, attributes={})
    deletions = [
        await request_document_deletion(resources, workspace.id, one, purge_file=True) for one in (document.id, twin.id)
    ]
    await asyncio.gather(*(run_deletion(resources, deletion) for deletion in deletions))
    assert await resources.storage.count_objects(workspace.bucket) == 0
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM files") == 0


async def test_the_file_is_retained_without_purge_file(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    await run_deletion(
        resources, await request_document_deletion(resources, workspace.id, document.id, purge_file=False)
    )
    async with resources.pool.acquire() as conn:
        assert await files.select_file(conn, workspace.id, document.file_id) is not None
    assert await resources.storage.count_objects(workspace.bucket) == 1


async def test_a_collection_is_deleted_with_its_documents(resources: Resources, workspace: Workspace) -> None:
    collection_id = new_id()
    async with resources.pool.acquire() as conn:
        await collections.insert_collection(conn, workspace.id, collection_id, name="deleted")
    inside = [await ready_document(resources, workspace, collection_id=collection_id) for _ in range(2)]
    outside = await ready_document(resources, workspace)
    deletion = await request_collection_deletion(resources, workspace.id, collection_id)
    assert (await reload(resources, inside[0])).status is DocumentStatus.DELETING
    done = await run_deletion(resources, deletion)
    assert removed_counts(done)["documents"] == 2
    async with resources.pool.acquire() as conn:
        assert await collections.lock_collection(conn, workspace.id, collection_id) is None
    assert await request_collection_deletion(resources, workspace.id, collection_id) == done
    assert (await reload(resources, outside)).status is DocumentStatus.READY


async def test_a_workspace_is_deleted_with_its_bucket(resources: Resources, workspace: Workspace) -> None:
    await ready_document(resources, workspace)
    other = await create_workspace(resources.pool, resources.storage, resources.settings)
    done = await run_deletion(resources, await request_workspace_deletion(resources, workspace.id))
    assert (done.status, done.subject_kind) == (DeletionStatus.COMPLETED, SubjectKind.WORKSPACE)
    async with resources.pool.acquire() as conn:
        assert await workspaces.select_workspace(conn, workspace.id) is None
        assert await workspaces.select_workspace(conn, other.id) is not None
    assert await resources.storage.count_objects(workspace.bucket) == 0
    assert await request_workspace_deletion(resources, workspace.id) == done


async def test_the_usage_of_a_workspace_is_deleted_with_it(resources: Resources, workspace: Workspace) -> None:
    other = await create_workspace(resources.pool, resources.storage, resources.settings)
    spent = EmbeddingUsage(calls=1, prompt_tokens=5)
    for one in (workspace, other):
        resources.query_usage.note(one.id, spent)
    await resources.query_usage.write()
    assert set(await embeddings_of(resources.pool, workspace.id)) == {resources.settings.llm.embedding_model}
    resources.query_usage.note(workspace.id, spent)
    await run_deletion(resources, await request_workspace_deletion(resources, workspace.id))
    # Usage noted before the deletion and written afterwards is dropped.
    await resources.query_usage.write()
    assert await embeddings_of(resources.pool, workspace.id) == {}
    assert await embeddings_of(resources.pool, other.id) == {resources.settings.llm.embedding_model: spent}


async def test_deleting_a_workspace_leaves_others_in_a_shared_bucket(resources: Resources) -> None:
    shared = resources.settings.changed({"s3_bucket_mode": "shared"})
    deleted, remaining = [await create_workspace(resources.pool, resources.storage, shared) for _ in range(2)]
    assert deleted.bucket == remaining.bucket == shared.stores.s3_bucket_prefix
    for workspace in (deleted, remaining):
        await accept(resources, workspace)
        await accept(resources, workspace, b"another", filename="another.txt")
    unfinished = await resources.storage.create_multipart(
        remaining.bucket, remaining.object_key(new_id()), mime_type="text/plain"
    )
    done = await run_deletion(resources, await request_workspace_deletion(resources, deleted.id))
    objects = next(store for store in done.stores if store.store == "objects")
    assert (objects.removed, objects.remaining) == (2, 0)
    assert await resources.storage.count_objects(deleted.bucket) == 2
    assert await resources.storage.count_objects(remaining.bucket, prefix=remaining.key_prefix) == 2
    assert [one.upload_id for one in await resources.storage.list_multiparts(remaining.bucket)] == [unfinished]


async def test_remaining_data_prevents_the_receipt(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)

    async def remove_nothing(*_arguments: object, **_options: object) -> int:
        return 0

    monkeypatch.setattr(chunks, "delete_chunk_texts", remove_nothing)
    with pytest.raises(TransientFailure, match="chunks"):
        await run_deletion(resources, deletion)
    assert (await load_deletion(resources, deletion)).status is DeletionStatus.RUNNING
