"""Nothing is added to what is being deleted, and what was being written when the deletion was accepted is removed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.bulk.requests import request_bulk_operation
from ragsvc.db import chunks, documents, idempotency_keys, workspaces
from ragsvc.deletion.requests import (
    request_collection_deletion,
    request_document_deletion,
    request_workspace_deletion,
)
from ragsvc.domain.bulk import BulkAction
from ragsvc.domain.deletions import DeletionStatus
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.idempotency import Call
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.domain.uploads import UploadToken
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.errors.requests import DocumentDeleting, NotFound, Unauthorized
from ragsvc.errors.work import LeaseLost
from ragsvc.ingestion.pipeline import ingest
from ragsvc.ingestion.reingestion import request_reingestion
from ragsvc.retrieval.search import search
from ragsvc.runs.requests import begin_run
from ragsvc.runs.runs import open_runs
from ragsvc.runs.sessions import create_session
from ragsvc.tenants.collections import create_collection
from ragsvc.uploads.cleaning import abandon
from ragsvc.uploads.completion import complete_session
from ragsvc.uploads.documents import attach_file, receive_content
from ragsvc.uploads.sessions import open_session
from ragsvc.uploads.token_sessions import open_token_session
from ragsvc.uploads.tokens import create_upload_token
from ragsvc.webhooks.registration import create_webhook
from ragsvc.workers.runner import run_job
from tests.support.documents.builds import begin, finish, make_chunks, make_vectors, ready_document
from tests.support.documents.deletions import run_deletion
from tests.support.documents.documents import accept, job_of, reload, reload_job, stream
from tests.support.documents.library import Library
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ragsvc.domain.chat.conversations import ChatSession
    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


SELECT_IS_WAITED_FOR = """
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid)))
"""
HOOK = "https://example.com"


@dataclass(frozen=True, slots=True)
class Scene:
    """A workspace with a document and a chat session, to which a late request wants to add something."""

    resources: Resources
    workspace: Workspace
    document: Document
    session: ChatSession
    token: UploadToken


async def _replace(scene: Scene) -> object:
    return await receive_content(
        scene.resources,
        scene.workspace,
        scene.document.id,
        stream(b"Kettles whistle."),
        filename="newer.txt",
        mime_type="text/plain",
        late_attributes=lambda: None,
    )


async def _ask(scene: Scene) -> object:
    async with open_runs(scene.resources) as runs:
        return await begin_run(runs, scene.workspace.id, scene.session.id, content="How hot?")


REGISTRATIONS: dict[str, Callable[[Scene], Awaitable[object]]] = {
    "upload": lambda scene: accept(scene.resources, scene.workspace, b"Another kettle."),
    "replacement": _replace,
    "session": lambda scene: open_session(
        scene.resources,
        scene.workspace,
        filename="a.txt",
        size_bytes=10,
        mime_type="text/plain",
        sha256=None,
        collection_id=None,
        attributes={},
        chunking=None,
    ),
    "token session": lambda scene: open_token_session(
        scene.resources, scene.workspace, scene.token, filename="a.txt", mime_type="text/plain", size_bytes=10
    ),
    "token": lambda scene: create_upload_token(
        scene.resources,
        scene.workspace.id,
        new_id(),
        key_id=new_id(),
        token_hash=bytes(32),
        collection_id=None,
        max_bytes=None,
        ttl_s=60,
    ),
    "attachment": lambda scene: attach_file(
        scene.resources,
        scene.workspace,
        scene.document.file_id,
        collection_id=scene.document.collection_id,
        attributes={},
    ),
    "reingestion": lambda scene: request_reingestion(
        scene.resources, scene.workspace.id, scene.document.id, chunking=None
    ),
    "collection": lambda scene: create_collection(
        scene.resources, scene.workspace.id, new_id(), name="late", chunking=None, metadata={}
    ),
    "webhook": lambda scene: create_webhook(
        replace(scene.resources, settings=scene.resources.settings.changed({"webhook_allowed_origins": HOOK})),
        scene.workspace.id,
        new_id(),
        url=f"{HOOK}/",
        events=[WebhookEvent.DOCUMENT_READY],
        secret=bytes(32),
    ),
    "bulk operation": lambda scene: request_bulk_operation(
        scene.resources, scene.workspace.id, BulkAction.REINGEST, operation_id=new_id()
    ),
    "chat session": lambda scene: create_session(
        scene.resources,
        scene.workspace.id,
        new_id(),
        title=None,
        instructions=None,
        model=None,
        collection_ids=None,
        no_answer_text=None,
    ),
    "run": _ask,
}


@pytest.fixture
async def scene(resources: Resources, workspace: Workspace) -> Scene:
    """A workspace with a ready document and a chat session."""
    document = await ready_document(resources, workspace)
    session = await create_session(
        resources,
        workspace.id,
        new_id(),
        title=None,
        instructions=None,
        model=None,
        collection_ids=None,
        no_answer_text=None,
    )
    token = UploadToken(
        workspace.id, new_id(), new_id(), document.collection_id, 1000, expires_at=datetime.max.replace(tzinfo=UTC)
    )
    return Scene(resources, workspace, document, session, token)


async def test_nothing_is_added_to_a_workspace_that_is_being_deleted(scene: Scene) -> None:
    """In one test, since the workspace with its document is needed once."""
    deletion = await request_workspace_deletion(scene.resources, scene.workspace.id)
    accepted = []
    for name, register in REGISTRATIONS.items():
        with suppress(Unauthorized, NotFound, DocumentDeleting):
            await register(scene)
            accepted.append(name)
    assert accepted == []
    assert (await run_deletion(scene.resources, deletion)).status is DeletionStatus.COMPLETED
    assert await scene.resources.storage.count_objects(scene.workspace.bucket) == 0


@pytest.mark.parametrize("register", [REGISTRATIONS["upload"], REGISTRATIONS["chat session"]], ids=["upload", "chat"])
async def test_a_deletion_waits_for_what_is_being_added(
    scene: Scene, register: Callable[[Scene], Awaitable[object]]
) -> None:
    resources, workspace = scene.resources, scene.workspace
    async with resources.pool.acquire() as conn, conn.transaction():
        # As a registration does that has not committed yet.
        await workspaces.pin_workspace(conn, workspace.id)
        own_pid = await conn.fetchval("SELECT pg_backend_pid()")
        deleting = asyncio.create_task(request_workspace_deletion(resources, workspace.id))

        async def waits() -> bool:
            async with resources.pool.acquire() as other:
                return bool(await other.fetchval(SELECT_IS_WAITED_FOR, own_pid))

        await until(waits, what="the deletion to wait for the lock")
        assert not deleting.done()
    assert (await deleting).status is DeletionStatus.PENDING
    with pytest.raises((Unauthorized, NotFound)):
        await register(scene)


async def test_an_object_that_is_completed_after_the_deletion_is_removed(
    resources: Resources, workspace: Workspace
) -> None:
    """In a shared bucket, no sweep looks under the prefix of a workspace that is gone."""
    upload = await open_session(
        resources,
        workspace,
        filename="late.txt",
        size_bytes=4,
        mime_type="text/plain",
        sha256=None,
        collection_id=None,
        attributes={},
        chunking=None,
    )
    await run_deletion(resources, await request_workspace_deletion(resources, workspace.id))
    await resources.storage.create_bucket(workspace.bucket)
    await resources.storage.put_object(workspace.bucket, upload.object_key, body=b"late", metadata={})
    # As the request does whose registration was refused.
    await abandon(resources, upload)
    assert await resources.storage.count_objects(workspace.bucket) == 0
    await resources.storage.delete_bucket(workspace.bucket)


@pytest.mark.parametrize("kind", ["workspace", "collection", "document"])
async def test_a_deletion_during_an_ingestion_leaves_no_chunks(
    resources: Resources, workspace: Workspace, kind: str
) -> None:
    collection_id = await Library(resources, workspace.id).add_collection("going")
    document = await accept(resources, workspace, collection_id=collection_id)
    writing = await begin(resources, document)
    match kind:
        case "workspace":
            deletion = await request_workspace_deletion(resources, workspace.id)
        case "collection":
            deletion = await request_collection_deletion(resources, workspace.id, collection_id)
        case _:
            deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    assert (await run_deletion(resources, deletion)).status is DeletionStatus.COMPLETED
    batch = make_chunks()
    with pytest.raises(LeaseLost):
        await writing.build.write_chunks(batch, make_vectors(batch, resources.space.dimensions))
    with pytest.raises(LeaseLost):
        await finish(writing)
    async with resources.pool.acquire() as conn:
        for table in ("chunk_text", "chunk_vec_1", "canonical_text", "documents"):
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608 - our own names


@pytest.mark.parametrize("kind", ["workspace", "collection"])
async def test_chunks_without_a_document_are_removed_too(resources: Resources, workspace: Workspace, kind: str) -> None:
    collection_id = await Library(resources, workspace.id).add_collection("going")
    batch = make_chunks()
    async with resources.pool.acquire() as conn:
        await chunks.insert_chunks(
            conn,
            workspace.id,
            new_id(),
            collection_id=collection_id,
            build_id=new_id(),
            chunks=batch,
            vectors=make_vectors(batch, resources.space.dimensions),
            space=resources.space,
            text_search_config="english",
        )
    if kind == "workspace":
        deletion = await request_workspace_deletion(resources, workspace.id)
    else:
        deletion = await request_collection_deletion(resources, workspace.id, collection_id)
    done = {store.store: store.removed for store in (await run_deletion(resources, deletion)).stores}
    assert (done["chunks"], done["vectors"]) == (3, 3)


async def test_the_ingestion_of_a_document_that_is_gone_is_cancelled(
    resources: Resources, workspace: Workspace
) -> None:
    collection_id = await Library(resources, workspace.id).add_collection("going")
    document = await accept(resources, workspace, collection_id=collection_id)
    job = await job_of(resources, document)
    # Its worker claims the job before the deletion reaches the document.
    await request_collection_deletion(resources, workspace.id, collection_id)

    context = {"resources": resources, "queue": Queue.INGESTION, "owner": "w", "stopping": asyncio.Event()}

    async def work(inner: Resources, lease: Any) -> None:
        unused: Any = None  # The file is never parsed.
        await ingest(inner, lease, sandbox=unused, scratch=unused)

    await run_job(context, str(job.id), work)
    ended = await reload_job(resources, job)
    assert (ended.status, ended.rescues, ended.lease_token) == (JobStatus.CANCELLED, 0, None)


async def test_documents_are_hidden_by_the_mark_on_their_collection(resources: Resources, workspace: Workspace) -> None:
    library = Library(resources, workspace.id)
    collection_id = await library.add_collection("going")
    document = await ready_document(resources, workspace, collection_id=collection_id)
    assert (await search(resources, workspace.id, query="kettles")).hits
    deletion = await request_collection_deletion(resources, workspace.id, collection_id)
    # No row of a document has been changed yet.
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT status FROM documents") == "ready"
        assert (await documents.select_usage(conn, workspace.id)).documents == 0
    shown = await reload(resources, document)
    assert (shown.status, shown.deletion_id) == (DocumentStatus.DELETING, deletion.id)
    assert (await search(resources, workspace.id, query="kettles")).hits == []
    again = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    assert again.id == deletion.id
    with pytest.raises(DocumentDeleting):
        await request_reingestion(resources, workspace.id, document.id, chunking=None)


async def test_documents_are_hidden_by_the_mark_on_their_workspace(resources: Resources, workspace: Workspace) -> None:
    document = await ready_document(resources, workspace)
    deletion = await request_workspace_deletion(resources, workspace.id)
    # A request that was authenticated before the deletion finds nothing.
    assert (await search(resources, workspace.id, query="kettles")).hits == []
    shown = await reload(resources, document)
    assert (shown.status, shown.deletion_id) == (DocumentStatus.DELETING, deletion.id)


async def test_a_response_is_kept_without_its_body_if_a_document_in_it_is_gone(
    resources: Resources, workspace: Workspace
) -> None:
    gone, living = await ready_document(resources, workspace), await ready_document(resources, workspace)
    call = Call(workspace.id, "a search", call_hash=bytes(32), body_hash=bytes(32))
    async with resources.pool.acquire() as conn:
        claim = await idempotency_keys.claim_call(
            conn, call, token=new_id(), resource_id=new_id(), seed=bytes(32), lease_s=60
        )
        assert claim is not None
    # The search takes so long that the document is deleted meanwhile.
    await run_deletion(resources, await request_document_deletion(resources, workspace.id, gone.id, purge_file=True))
    async with resources.pool.acquire() as conn:
        await idempotency_keys.store_response(
            conn, claim, status=200, headers={}, body=b"words of both", document_ids=[gone.id, living.id]
        )
        stored = await idempotency_keys.select_stored_response(conn, call)
    assert stored is not None
    assert (stored.status, stored.body) == (200, None)


async def test_a_kept_response_is_withheld_as_soon_as_a_deletion_is_acknowledged(
    resources: Resources, workspace: Workspace
) -> None:
    collection_id = await Library(resources, workspace.id).add_collection("going")
    document = await ready_document(resources, workspace, collection_id=collection_id)
    call = Call(workspace.id, "a search", call_hash=bytes(32), body_hash=bytes(32))
    async with resources.pool.acquire() as conn:
        claim = await idempotency_keys.claim_call(
            conn, call, token=new_id(), resource_id=new_id(), seed=bytes(32), lease_s=60
        )
        assert claim is not None
        await idempotency_keys.store_response(
            conn, claim, status=200, headers={}, body=b"words", document_ids=[document.id]
        )
    await request_collection_deletion(resources, workspace.id, collection_id)
    async with resources.pool.acquire() as conn:
        stored = await idempotency_keys.select_stored_response(conn, call)
    assert stored is not None
    assert stored.body is None


async def test_a_session_whose_collection_was_deleted_cannot_be_completed(
    resources: Resources, workspace: Workspace
) -> None:
    """The completion after a deletion settles the session instead of leaving it open."""
    upload = await open_session(
        resources,
        workspace,
        filename="a.txt",
        size_bytes=10,
        mime_type="text/plain",
        sha256=None,
        collection_id=None,
        attributes={},
        chunking=None,
    )
    await run_deletion(resources, await request_workspace_deletion(resources, workspace.id))
    with pytest.raises(NotFound):
        await complete_session(resources, workspace.id, upload.id)
