"""Versions: the old version is served until the new one is ready, and superseded data is swept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import canonical_text, chunks, collections, documents, files
from ragsvc.deletion.files import delete_unused_file, sweep_released_files
from ragsvc.deletion.requests import request_document_deletion
from ragsvc.domain.collections import Chunking
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import DeadLetterFilter, JobStatus, Queue
from ragsvc.errors.requests import DocumentDeleting, DocumentExists, FileInUse, IngestionActive, NoReplacement, NotFound
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected, LeaseLost, TransientFailure
from ragsvc.ingestion.reingestion import request_reingestion
from ragsvc.ingestion.stale_builds import sweep_builds, sweep_superseded_texts
from ragsvc.jobs import dead_letters, lifecycle, retry_policy
from ragsvc.uploads.documents import attach_file, receive_content
from tests.support.documents.builds import SENTENCES, begin, build, finish, ready_document
from tests.support.documents.documents import accept, job_of, reload, reload_job, stream
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

NEWER = ("Kettles whistle.", "Descale them every month.")


async def replace(
    resources: Resources, workspace: Workspace, document: Document, attributes: dict[str, object] | None = None
) -> Document:
    """Replace the document's file."""
    return await receive_content(
        resources,
        workspace,
        document.id,
        stream("\n".join(NEWER).encode()),
        filename="newer.txt",
        mime_type="text/plain",
        late_attributes=lambda: attributes,
    )


async def served_texts(resources: Resources, document: Document) -> list[str]:
    """Return the chunk texts of the current version."""
    async with resources.pool.acquire() as conn:
        return [one.text for one in await chunks.select_chunks(conn, document.workspace_id, document.id, limit=100)]


async def stored_rows(resources: Resources) -> tuple[int, int]:
    """Return the number of stored chunks and vectors, visible or not."""
    async with resources.pool.acquire() as conn:
        texts: int = await conn.fetchval("SELECT count(*) FROM chunk_text")
        vectors: int = await conn.fetchval(f"SELECT count(*) FROM {resources.space.table}")  # noqa: S608 - our own table
    return texts, vectors


async def text_of(resources: Resources, document: Document, version: int) -> str | None:
    async with resources.pool.acquire() as conn:
        part = await canonical_text.select_text_slice(conn, document.workspace_id, document.id, version=version)
    return part.text if part else None


async def fail(resources: Resources, document: Document) -> None:
    """Make the document's ingestion fail permanently."""
    job = await lifecycle.claim(
        resources.pool, (await job_of(resources, document)).id, queue=Queue.INGESTION, owner="test", lease_s=60
    )
    assert job is not None
    failure = retry_policy.classify(DocumentRejected(DocumentErrorCode.CORRUPT, "damaged"))
    assert await lifecycle.fail(resources.pool, job, failure, settings=resources.settings) is not None


async def test_the_old_version_is_served_until_the_new_one_is_ready(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    queued = await request_reingestion(resources, workspace.id, document.id, chunking=None)
    assert (queued.status, queued.version, queued.progress) == (DocumentStatus.QUEUED, 1, 0.0)
    writing = await begin(resources, document, sentences=NEWER)
    assert await served_texts(resources, document) == list(SENTENCES)
    await finish(writing, sentences=NEWER)
    assert await served_texts(resources, document) == list(NEWER)
    after = await reload(resources, document)
    assert (after.status, after.version, after.chunk_count) == (DocumentStatus.READY, 2, 2)
    assert after.file_id == document.file_id


async def test_chunks_of_a_superseded_version_are_swept_and_its_text_is_retained(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    await request_reingestion(resources, workspace.id, document.id, chunking=None)
    await build(resources, document, sentences=NEWER)
    assert await stored_rows(resources) == (5, 5)
    assert await sweep_builds(resources) == 6
    assert await stored_rows(resources) == (2, 2)
    assert await sweep_builds(resources) == 0
    assert await served_texts(resources, document) == list(NEWER)
    assert await text_of(resources, document, 1) == "\n".join(SENTENCES)
    assert await text_of(resources, document, 2) == "\n".join(NEWER)


async def test_a_running_build_is_not_swept_and_a_lost_one_is(resources: Resources, workspace: Workspace) -> None:
    document = await accept(resources, workspace)
    writing = await begin(resources, document)
    assert await sweep_builds(resources) == 0
    assert await lifecycle.hand_back(resources.pool, writing.job) is not None
    assert await sweep_builds(resources) == 6
    with pytest.raises(LeaseLost):
        await finish(writing)
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM canonical_text") == 0


async def test_the_text_of_a_superseded_version_expires_unless_it_is_cited(
    resources: Resources, workspace: Workspace
) -> None:
    cited, uncited = [await ready_document(resources, workspace) for _ in range(2)]
    for document in (cited, uncited):
        await request_reingestion(resources, workspace.id, document.id, chunking=None)
        await build(resources, document, sentences=NEWER)
    await sweep_builds(resources)
    assert await sweep_superseded_texts(resources) == 0
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE canonical_text SET keep_until = now() - interval '1 s' WHERE keep_until IS NOT NULL")
        session_id = new_id()
        await conn.execute("INSERT INTO chat_sessions (workspace_id, id) VALUES ($1, $2)", workspace.id, session_id)
        citation = {"document_id": str(cited.id), "version": 1}
        await conn.execute(
            """INSERT INTO chat_messages (workspace_id, id, session_id, run_id, role, status, sources, citations)
            VALUES ($1, $2, $3, $2, 'assistant', 'completed', $4, $4)""",
            workspace.id,
            new_id(),
            session_id,
            [citation],
        )
    assert await sweep_superseded_texts(resources) == 1
    assert await text_of(resources, uncited, 1) is None
    assert await text_of(resources, cited, 1) == "\n".join(SENTENCES)
    assert await text_of(resources, uncited, 2) == await text_of(resources, cited, 2) == "\n".join(NEWER)


async def test_only_one_ingestion_of_a_document_is_active_at_a_time(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    asked = await asyncio.gather(
        *(request_reingestion(resources, workspace.id, document.id, chunking=None) for _ in range(5)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in asked) == ["Document", *["IngestionActive"] * 4]
    writing = await begin(resources, document)
    with pytest.raises(IngestionActive):
        await request_reingestion(resources, workspace.id, document.id, chunking=None)
    await finish(writing)
    await request_reingestion(resources, workspace.id, document.id, chunking=None)


async def test_only_existing_documents_of_the_workspace_are_reingested(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    other = await create_workspace(resources.pool, resources.storage, resources.settings)
    with pytest.raises(NotFound):
        await request_reingestion(resources, other.id, document.id, chunking=None)
    with pytest.raises(NotFound):
        await replace(resources, other, document)
    await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    with pytest.raises(DocumentDeleting):
        await request_reingestion(resources, workspace.id, document.id, chunking=None)
    with pytest.raises(DocumentDeleting):
        await replace(resources, workspace, document)
    assert await resources.storage.count_objects(workspace.bucket) == 1


async def test_a_requested_chunking_is_preserved_when_the_job_is_handed_back(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    await request_reingestion(resources, workspace.id, document.id, chunking=Chunking(64, 8))
    queued = await job_of(resources, document)
    assert queued.payload["chunking"] == {"max_tokens": 64, "overlap_tokens": 8}
    claimed = await lifecycle.claim(resources.pool, queued.id, queue=queued.queue, owner="test", lease_s=60)
    assert claimed is not None
    assert await lifecycle.hand_back(resources.pool, claimed) is not None
    assert (await job_of(resources, document)).payload == queued.payload


async def test_a_reingestion_replaces_a_job_that_waits_for_its_next_attempt(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    await request_reingestion(resources, workspace.id, document.id, chunking=None)
    queued = await job_of(resources, document)
    claimed = await lifecycle.claim(resources.pool, queued.id, queue=queued.queue, owner="test", lease_s=60)
    assert claimed is not None
    failure = retry_policy.classify(TransientFailure("embedding_unavailable", "busy", retry_after_s=3600))
    await lifecycle.fail(resources.pool, claimed, failure, settings=resources.settings)
    again = await request_reingestion(resources, workspace.id, document.id, chunking=Chunking(64, 8))
    replaced = await job_of(resources, document)
    assert (again.status, again.error) == (DocumentStatus.QUEUED, None)
    assert replaced.id != queued.id
    with pytest.raises(IngestionActive):
        await request_reingestion(resources, workspace.id, document.id, chunking=None)
    await build(resources, document)
    assert (await reload(resources, document)).version == 2


async def test_a_new_file_replaces_the_old_one(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    queued = await replace(resources, workspace, document, {"year": 2026})
    assert (queued.id, queued.status, queued.version) == (document.id, DocumentStatus.QUEUED, 1)
    assert (queued.file_id, queued.filename, queued.attributes) == (document.file_id, "kettles.txt", {})
    assert await served_texts(resources, document) == list(SENTENCES)
    await build(resources, document, sentences=NEWER)
    after = await reload(resources, document)
    assert (after.filename, after.version, after.attributes) == ("newer.txt", 2, {"year": 2026})
    assert after.pending_file_id is None
    async with resources.pool.acquire() as conn:
        assert await files.select_file(conn, workspace.id, document.file_id) is None
        assert (await documents.select_usage(conn, workspace.id)).storage_bytes == after.size_bytes
    assert await sweep_released_files(resources) == 1
    assert await resources.storage.count_objects(workspace.bucket) == 1
    assert await sweep_released_files(resources) == 0


async def test_attributes_set_during_ingestion_override_pending_ones(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    await replace(resources, workspace, document, {"year": 2026})
    async with resources.pool.acquire() as conn:
        await documents.update_document_attributes(conn, workspace.id, document.id, attributes={"year": 2027})
    await build(resources, document, sentences=NEWER)
    assert (await reload(resources, document)).attributes == {"year": 2027}


async def test_the_file_of_a_replaced_version_is_retained_if_another_document_uses_it(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    other_id = new_id()
    async with resources.pool.acquire() as conn:
        await collections.insert_collection(conn, workspace.id, other_id, name="other")
    twin = await attach_file(resources, workspace, document.file_id, collection_id=other_id, attributes={})
    await replace(resources, workspace, document)
    await build(resources, document, sentences=NEWER)
    assert await sweep_released_files(resources) == 0
    assert (await reload(resources, twin)).file_id == document.file_id
    assert await resources.storage.count_objects(workspace.bucket) == 2


async def test_the_old_version_is_served_after_a_new_one_fails(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    await replace(resources, workspace, document)
    await fail(resources, document)
    failed = await reload(resources, document)
    assert (failed.status, failed.version, failed.file_id) == (DocumentStatus.FAILED, 1, document.file_id)
    assert failed.error is not None
    assert failed.error.code == "corrupt"
    assert await served_texts(resources, document) == list(SENTENCES)
    # Reingestion uses the newest file, not the current one.
    await request_reingestion(resources, workspace.id, document.id, chunking=None)
    await build(resources, document, sentences=NEWER)
    assert (await reload(resources, document)).filename == "newer.txt"
    assert await served_texts(resources, document) == list(NEWER)


async def test_a_failed_replacement_is_discarded_for_the_current_file(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    replaced = await replace(resources, workspace, document, {"year": 2026})
    failing = await job_of(resources, document)
    await fail(resources, document)
    queued = await request_reingestion(resources, workspace.id, document.id, chunking=None, discard_replacement=True)
    assert (queued.status, queued.error, queued.pending_file_id) == (DocumentStatus.QUEUED, None, None)
    # Its dead letter refers to a file that no longer exists.
    assert (await reload_job(resources, failing)).status is JobStatus.SUPERSEDED
    replayed = await dead_letters.replay(resources, Queue.INGESTION, DeadLetterFilter(ids=(failing.id,)))
    assert (replayed.matched, replayed.replayed) == (0, 0)
    async with resources.pool.acquire() as conn:
        assert await files.select_file(conn, workspace.id, replaced.pending_file_id or new_id()) is None
    await build(resources, document, sentences=SENTENCES)
    after = await reload(resources, document)
    assert (after.status, after.version, after.file_id) == (DocumentStatus.READY, 2, document.file_id)
    assert (after.filename, after.attributes) == (document.filename, {})
    assert await sweep_released_files(resources) == 1
    assert await resources.storage.count_objects(workspace.bucket) == 1
    async with resources.pool.acquire() as conn:
        assert (await documents.select_usage(conn, workspace.id)).storage_bytes == document.size_bytes


async def test_a_pending_replacement_is_not_discarded(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    await replace(resources, workspace, document)
    with pytest.raises(IngestionActive):
        await request_reingestion(resources, workspace.id, document.id, chunking=None, discard_replacement=True)
    await build(resources, document, sentences=NEWER)
    # Once the new file is current, there is no replacement to discard.
    with pytest.raises(NoReplacement):
        await request_reingestion(resources, workspace.id, document.id, chunking=None, discard_replacement=True)
    assert (await reload(resources, document)).filename == "newer.txt"


async def test_a_discarded_replacement_is_retained_if_another_document_uses_it(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    discarded = (await replace(resources, workspace, document)).pending_file_id
    assert discarded is not None
    await fail(resources, document)
    other_id = new_id()
    async with resources.pool.acquire() as conn:
        await collections.insert_collection(conn, workspace.id, other_id, name="other")
    twin = await attach_file(resources, workspace, discarded, collection_id=other_id, attributes={})
    await request_reingestion(resources, workspace.id, document.id, chunking=None, discard_replacement=True)
    assert await sweep_released_files(resources) == 0
    assert (await reload(resources, twin)).file_id == discarded
    assert await resources.storage.count_objects(workspace.bucket) == 2


async def test_a_newer_file_discards_the_pending_one_and_cancels_its_ingestion(
    resources: Resources, workspace: Workspace
) -> None:
    document = await ready_document(resources, workspace)
    await replace(resources, workspace, document)
    overtaken = await begin(resources, document)
    await replace(resources, workspace, document)
    assert (await reload_job(resources, overtaken.job)).status is JobStatus.CANCELLED
    with pytest.raises(LeaseLost):
        await finish(overtaken)
    assert await sweep_released_files(resources) == 1
    assert await sweep_builds(resources) == 6
    await build(resources, document, sentences=NEWER)
    assert await sweep_released_files(resources) == 1
    assert await resources.storage.count_objects(workspace.bucket) == 1
    assert await served_texts(resources, document) == list(NEWER)


async def test_a_document_that_was_never_ready_gets_a_new_file_immediately(
    resources: Resources, workspace: Workspace
) -> None:
    document = await accept(resources, workspace)
    await fail(resources, document)
    queued = await replace(resources, workspace, document, {"year": 2026})
    assert (queued.status, queued.error, queued.filename) == (DocumentStatus.QUEUED, None, "newer.txt")
    assert (queued.attributes, queued.pending_file_id) == ({"year": 2026}, None)
    assert await sweep_released_files(resources) == 1
    async with resources.pool.acquire() as conn:
        dead = await conn.fetchval("SELECT count(*) FROM jobs WHERE status = 'dead'")
    assert dead == 0
    await build(resources, document, sentences=NEWER)
    assert await served_texts(resources, document) == list(NEWER)


async def test_a_pending_file_is_in_use_and_part_of_its_collection(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    pending = (await replace(resources, workspace, document)).pending_file_id
    assert pending is not None
    with pytest.raises(FileInUse):
        await delete_unused_file(resources, workspace, pending)
    with pytest.raises(DocumentExists):
        await attach_file(resources, workspace, pending, collection_id=document.collection_id, attributes={})
    await build(resources, document, sentences=NEWER)
    with pytest.raises(DocumentExists):
        await attach_file(resources, workspace, pending, collection_id=document.collection_id, attributes={})


async def test_concurrent_attachments_of_a_file_create_one_document(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    other_id = new_id()
    async with resources.pool.acquire() as conn:
        await collections.insert_collection(conn, workspace.id, other_id, name="other")
    attach = [
        attach_file(resources, workspace, document.file_id, collection_id=other_id, attributes={}) for _ in range(5)
    ]
    asked = await asyncio.gather(*attach, return_exceptions=True)
    assert sorted(type(one).__name__ for one in asked) == ["Document", *["DocumentExists"] * 4]
