"""A session becomes exactly one document, no matter when its process dies."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.db import documents, files, upload_sessions
from ragsvc.domain.uploads import Upload, UploadStatus
from ragsvc.errors.requests import NotFound, PartsMissing, UploadNotPending
from ragsvc.errors.work import DocumentRejected, OutageFailure
from ragsvc.ingestion.source import download
from ragsvc.storage.store import open_storage
from ragsvc.uploads.completion import complete_session
from ragsvc.uploads.sessions import load_session, load_state, open_session
from ragsvc.uploads.sweeper import sweep_uploads

if TYPE_CHECKING:
    from pathlib import Path

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

CONTENT = b"A kettle boils water at 100 degrees."


async def opened(resources: Resources, workspace: Workspace, *, sha256: bytes | None = None) -> Upload:
    """Return a session whose only part is in the store."""
    upload = await open_session(
        resources,
        workspace,
        filename="kettle.txt",
        size_bytes=len(CONTENT),
        mime_type="text/plain",
        sha256=sha256,
        collection_id=None,
        attributes={},
        chunking=None,
    )
    await put(resources, upload)
    return upload


async def put(resources: Resources, upload: Upload, content: bytes = CONTENT) -> None:
    await resources.storage.upload_part(
        upload.bucket, upload.object_key, upload_id=str(upload.s3_upload_id), number=1, body=content
    )


async def abandon_completion(resources: Resources, upload: Upload) -> None:
    """Leave the session as if its process had been killed right after claiming it."""
    async with resources.pool.acquire() as conn:
        assert await upload_sessions.take_completing(conn, upload.workspace_id, upload.id, lease_s=60)
        await conn.execute("UPDATE upload_sessions SET completing_until = now() - interval '1 second'")


async def join_parts(resources: Resources, upload: Upload) -> None:
    """Join the parts in the store, as if the process had been killed right afterwards."""
    parts = await resources.storage.list_parts(upload.bucket, upload.object_key, upload_id=str(upload.s3_upload_id))
    await resources.storage.complete_multipart(
        upload.bucket, upload.object_key, upload_id=str(upload.s3_upload_id), parts=parts
    )


async def count_documents(resources: Resources, workspace: Workspace) -> int:
    async with resources.pool.acquire() as conn:
        return (await documents.select_usage(conn, workspace.id)).documents


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("by", ["the sweeper", "a retry"])
async def test_an_interrupted_completion_is_finished(
    resources: Resources, workspace: Workspace, by: str, *, joined: bool
) -> None:
    upload = await opened(resources, workspace)
    await abandon_completion(resources, upload)
    if joined:
        await join_parts(resources, upload)
    if by == "the sweeper":
        await sweep_uploads(resources)
    document = await complete_session(resources, workspace.id, upload.id)
    assert document.size_bytes == len(CONTENT)
    assert (await complete_session(resources, workspace.id, upload.id)).id == document.id
    assert await count_documents(resources, workspace) == 1
    async with resources.pool.acquire() as conn:
        assert await conn.fetchval("SELECT count(*) FROM jobs") == 1


async def test_an_interrupted_completion_with_missing_parts_is_reopened(
    resources: Resources, workspace: Workspace
) -> None:
    upload = await opened(resources, workspace)
    await put(resources, upload, b"short")
    await abandon_completion(resources, upload)
    await sweep_uploads(resources)
    state = await load_state(resources, workspace.id, upload.id)
    assert (state.upload.status, state.missing) == (UploadStatus.PENDING, (1,))
    with pytest.raises(PartsMissing) as missing:
        await complete_session(resources, workspace.id, upload.id)
    assert missing.value.missing == (1,)


async def test_a_completion_that_failed_in_a_store_outage_can_be_retried(
    resources: Resources, workspace: Workspace
) -> None:
    upload = await opened(resources, workspace)
    unreachable = resources.settings.changed({"s3_endpoint_url": "http://127.0.0.1:9"})
    async with open_storage(unreachable) as unreachable_storage:
        with pytest.raises(OutageFailure):
            await complete_session(replace(resources, storage=unreachable_storage), workspace.id, upload.id)
    assert (await load_session(resources, workspace.id, upload.id)).status is UploadStatus.COMPLETING
    assert (await complete_session(resources, workspace.id, upload.id)).size_bytes == len(CONTENT)


async def test_deleting_the_collection_during_an_upload_removes_its_object(
    resources: Resources, workspace: Workspace
) -> None:
    upload = await opened(resources, workspace)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE upload_sessions SET collection_id = gen_random_uuid()")
    with pytest.raises(UploadNotPending, match="collection was deleted"):
        await complete_session(resources, workspace.id, upload.id)
    failed = await load_session(resources, workspace.id, upload.id)
    assert failed.status is UploadStatus.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "collection_gone"
    await sweep_uploads(resources)
    assert await resources.storage.count_objects(workspace.bucket) == 0


async def test_an_object_of_the_wrong_size_does_not_become_a_file(resources: Resources, workspace: Workspace) -> None:
    upload = await opened(resources, workspace)
    await put(resources, upload, b"short")
    await abandon_completion(resources, upload)
    await join_parts(resources, upload)
    with pytest.raises(UploadNotPending, match="5 bytes"):
        await complete_session(resources, workspace.id, upload.id)
    await sweep_uploads(resources)
    assert await resources.storage.count_objects(workspace.bucket) == 0


async def test_a_declared_digest_is_verified_when_the_file_is_read(
    resources: Resources, workspace: Workspace, tmp_path: Path
) -> None:
    async def report(_fraction: float) -> None: ...

    async def read(sha256: bytes | None) -> bytes:
        upload = await opened(resources, workspace, sha256=sha256)
        document = await complete_session(resources, workspace.id, upload.id)
        assert document.sha256 == sha256
        async with resources.pool.acquire() as conn:
            file = await files.select_file(conn, workspace.id, document.file_id)
        assert file is not None
        return await download(resources.storage, workspace.bucket, file, into=tmp_path / "file", report=report)

    digest = hashlib.sha256(CONTENT).digest()
    assert await read(digest) == await read(None) == digest
    with pytest.raises(DocumentRejected) as rejected:
        await read(hashlib.sha256(b"other").digest())
    assert rejected.value.work_code == "checksum_mismatch"


async def test_a_form_upload_is_not_visible_as_a_session(resources: Resources, workspace: Workspace) -> None:
    upload = await opened(resources, workspace)
    fields: dict[str, Any] = {"object_key": "objects/x", "filename": "x", "mime_type": "text/plain", "expires_s": 60}
    async with resources.pool.acquire() as conn:
        await upload_sessions.insert_upload(conn, workspace.id, workspace.id, **fields)
        listed = await upload_sessions.select_uploads(conn, workspace.id, status=None, before=None, limit=9)
    assert [one.id for one in listed] == [upload.id]
    with pytest.raises(NotFound):
        await load_session(resources, workspace.id, workspace.id)


@pytest.mark.parametrize("count", [1100, pytest.param(10_000, marks=pytest.mark.chaos)])
async def test_more_parts_than_fit_in_one_page_are_listed_and_joined(
    resources: Resources, workspace: Workspace, count: int
) -> None:
    # No session has parts this small, but the store accepts them, and only their number matters here.
    upload = await opened(resources, workspace)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE upload_sessions SET declared_size_bytes = $1, part_size_bytes = 1", count)
    slots = asyncio.Semaphore(16)

    async def send(number: int) -> None:
        async with slots:
            await resources.storage.upload_part(
                upload.bucket, upload.object_key, upload_id=str(upload.s3_upload_id), number=number, body=b"x"
            )

    await asyncio.gather(*(send(number) for number in range(count, 1, -1)))
    state = await load_state(resources, workspace.id, upload.id)
    assert state.missing == (1,)
    assert [part.number for part in state.received] == list(range(1, count + 1))
    await send(1)
    document = await complete_session(resources, workspace.id, upload.id)
    assert document.size_bytes == count
    stored = await resources.storage.head_object(upload.bucket, upload.object_key)
    assert stored.size_bytes == count
    assert await resources.storage.list_multiparts(upload.bucket) == []
