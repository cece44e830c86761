"""A file in one request is stored completely or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from ragsvc.db import documents, files, upload_sessions
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import JobStatus
from ragsvc.errors.requests import (
    DocumentExists,
    EmptyFile,
    NotFound,
    Overloaded,
    QuotaExceeded,
    RequestTimeout,
    TooLarge,
)
from ragsvc.queue.connection import open_redis
from ragsvc.queue.notifier import Notifier
from ragsvc.storage.budget import BufferBudget
from ragsvc.uploads import part_buffers
from ragsvc.uploads.documents import attach_file, receive_document
from ragsvc.uploads.sweeper import sweep_uploads
from tests.support.documents.documents import SAMPLE, accept, job_of, stream
from tests.support.polling import until
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

MIB = 1024 * 1024
PART = 8 * MIB
LARGE = bytes(part_buffers.SMALL_BYTES + 1)


async def assert_nothing_is_left(resources: Resources, workspace: Workspace) -> None:
    assert await resources.storage.count_objects(workspace.bucket) == 0
    assert await resources.storage.list_multiparts(workspace.bucket) == []
    async with resources.pool.acquire() as conn:
        assert await files.select_files(conn, workspace.id, limit=10) == []
        assert await documents.select_documents(conn, workspace.id, documents.ListedDocuments(), limit=10) == []
        assert await upload_sessions.select_unclean_uploads(conn, limit=10) == []


async def accept_from(resources: Resources, workspace: Workspace, source: AsyncIterator[bytes]) -> Document:
    return await receive_document(
        resources,
        workspace,
        source,
        filename="a.txt",
        mime_type="text/plain",
        collection_id=None,
        attributes={},
    )


async def test_an_accepted_file_is_stored_and_its_job_queued(resources: Resources, workspace: Workspace) -> None:
    document = await accept(resources, workspace)
    assert document.status is DocumentStatus.QUEUED
    assert (document.size_bytes, document.sha256) == (len(SAMPLE), hashlib.sha256(SAMPLE).digest())
    assert (await job_of(resources, document)).status is JobStatus.QUEUED
    async with resources.pool.acquire() as conn:
        file = await files.select_file(conn, workspace.id, document.file_id)
    assert file is not None
    async with resources.storage.open_object(workspace.bucket, file.object_key) as body:
        assert b"".join([block async for block in body.blocks]) == SAMPLE


async def test_a_file_of_several_parts_is_stored_unchanged(resources: Resources, workspace: Workspace) -> None:
    content = hashlib.shake_256(b"a large file").digest(17 * MIB + 3)
    document = await accept(resources, workspace, content, filename="large.txt")
    assert document.sha256 == hashlib.sha256(content).digest()
    async with resources.pool.acquire() as conn:
        file = await files.select_file(conn, workspace.id, document.file_id)
    assert file is not None
    async with resources.storage.open_object(
        workspace.bucket, file.object_key, byte_range=(8 * MIB - 2, 8 * MIB + 1)
    ) as body:
        assert b"".join([block async for block in body.blocks]) == content[8 * MIB - 2 : 8 * MIB + 2]


async def test_an_empty_file_is_rejected(resources: Resources, workspace: Workspace) -> None:
    with pytest.raises(EmptyFile):
        await accept(resources, workspace, b"")
    await assert_nothing_is_left(resources, workspace)


async def test_a_file_over_the_limit_leaves_nothing(resources: Resources, workspace: Workspace) -> None:
    small = replace(resources, settings=resources.settings.changed({"max_document_bytes": 9 * MIB}))
    with pytest.raises(TooLarge):
        await accept(small, workspace, bytes(10 * MIB))
    await assert_nothing_is_left(resources, workspace)


async def test_a_file_over_the_quota_leaves_nothing(resources: Resources) -> None:
    workspace = await create_workspace(resources.pool, resources.storage, resources.settings, quota_bytes=100)
    with pytest.raises(QuotaExceeded):
        await accept(resources, workspace, bytes(101))
    await assert_nothing_is_left(resources, workspace)


async def test_concurrent_uploads_do_not_exceed_the_quota(resources: Resources) -> None:
    workspace = await create_workspace(resources.pool, resources.storage, resources.settings, quota_bytes=250)
    results = await asyncio.gather(
        *(accept(resources, workspace, b"x" * 100) for _ in range(5)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 2
    assert all(isinstance(result, QuotaExceeded) for result in results if isinstance(result, BaseException))
    async with resources.pool.acquire() as conn:
        assert (await documents.select_usage(conn, workspace.id)).storage_bytes == 200


async def test_an_unknown_collection_is_rejected(resources: Resources, workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        await accept(resources, workspace, collection_id=new_id())
    await assert_nothing_is_left(resources, workspace)


async def test_a_client_that_disconnects_leaves_nothing(resources: Resources, workspace: Workspace) -> None:
    sent = asyncio.Event()

    async def stalled_body() -> AsyncIterator[bytes]:
        yield bytes(9 * MIB)
        sent.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(accept_from(resources, workspace, stalled_body()))
    await sent.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await assert_nothing_is_left(resources, workspace)


@asynccontextmanager
async def stalled(resources: Resources, workspace: Workspace) -> AsyncIterator[asyncio.Task[Document]]:
    """Send only the beginning of a part, which reserves the whole memory budget."""

    async def stalled_body() -> AsyncIterator[bytes]:
        yield LARGE
        await asyncio.Event().wait()

    sending = asyncio.create_task(accept_from(resources, workspace, stalled_body()))
    await until(lambda: resources.buffers.parts.free == 0, what="the slow file to reserve memory")
    yield sending
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_file_that_gets_no_memory_is_rejected_and_leaves_nothing(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = replace(resources, buffers=BufferBudget(PART))
    monkeypatch.setattr(tight.buffers.parts, "_max_wait_s", 0.2)
    async with stalled(tight, workspace):
        with pytest.raises(Overloaded):
            await accept_from(tight, workspace, stream(LARGE))
    await assert_nothing_is_left(resources, workspace)
    assert tight.buffers.parts.free == PART
    assert tight.buffers.small.free == tight.buffers.small.capacity
    assert (await accept_from(tight, workspace, stream(LARGE))).size_bytes == len(LARGE)


async def test_a_small_file_does_not_wait_for_a_slow_large_one(resources: Resources, workspace: Workspace) -> None:
    tight = replace(resources, buffers=BufferBudget(PART))
    async with stalled(tight, workspace):
        assert (await accept(tight, workspace)).size_bytes == len(SAMPLE)


async def test_a_slow_file_is_aborted_when_others_wait_for_memory(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_buffers, "LONG_TURN_S", 0.01)
    monkeypatch.setattr("ragsvc.shares.POLL_S", 0.01)
    tight = replace(resources, buffers=BufferBudget(PART))
    async with stalled(tight, workspace) as slow:
        assert (await accept_from(tight, workspace, stream(LARGE))).size_bytes == len(LARGE)
        with pytest.raises(RequestTimeout):
            await slow
    assert tight.buffers.parts.free == PART
    assert await resources.storage.count_objects(workspace.bucket) == 1
    assert await resources.storage.list_multiparts(workspace.bucket) == []


async def test_a_file_is_accepted_during_a_redis_outage(resources: Resources, workspace: Workspace) -> None:
    unreachable = resources.settings.changed({"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    redis = open_redis(unreachable)
    document = await accept(replace(resources, redis=redis, notifier=Notifier(redis, unreachable)), workspace)
    assert (await job_of(resources, document)).status is JobStatus.QUEUED
    await redis.aclose()


@pytest.mark.parametrize("completed", [False, True])
async def test_the_sweeper_removes_what_a_killed_process_left(
    resources: Resources, workspace: Workspace, *, completed: bool
) -> None:
    key, upload_id = "objects/left-behind", new_id()
    async with resources.pool.acquire() as conn:
        await upload_sessions.insert_upload(
            conn,
            workspace.id,
            upload_id,
            object_key=key,
            filename="a.txt",
            mime_type="text/plain",
            expires_s=0.001,
        )
    # Killed before it recorded the store's upload id, or after it completed the object but before it added the row.
    s3_id = await resources.storage.create_multipart(workspace.bucket, key, mime_type="text/plain")
    part = await resources.storage.upload_part(workspace.bucket, key, upload_id=s3_id, number=1, body=b"left")
    if completed:
        await resources.storage.complete_multipart(workspace.bucket, key, upload_id=s3_id, parts=[part])
    assert await sweep_uploads(resources) == 1
    await assert_nothing_is_left(resources, workspace)
    assert await sweep_uploads(resources) == 0


async def test_a_registered_file_survives_the_sweep(resources: Resources, workspace: Workspace) -> None:
    await accept(resources, workspace)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE upload_sessions SET expires_at = now() - interval '1 day'")
    assert await sweep_uploads(resources) == 0
    assert await resources.storage.count_objects(workspace.bucket) == 1


async def test_a_file_can_be_in_a_collection_only_once(resources: Resources, workspace: Workspace) -> None:
    document = await accept(resources, workspace)
    with pytest.raises(DocumentExists):
        await attach_file(resources, workspace, document.file_id, collection_id=document.collection_id, attributes={})


async def test_a_file_of_another_workspace_is_not_found(resources: Resources, workspace: Workspace) -> None:
    document = await accept(resources, workspace)
    other = await create_workspace(resources.pool, resources.storage, resources.settings)
    with pytest.raises(NotFound):
        await attach_file(resources, other, document.file_id, collection_id=document.collection_id, attributes={})


async def test_the_block_size_does_not_change_the_file(resources: Resources, workspace: Workspace) -> None:
    document = await receive_document(
        resources,
        workspace,
        stream(SAMPLE, block_bytes=1),
        filename="kettles.md",
        mime_type="text/markdown",
        collection_id=None,
        attributes={"shelf": 3},
    )
    assert document.sha256 == hashlib.sha256(SAMPLE).digest()
    assert document.attributes == {"shelf": 3}
