"""Unfinished uploads are cleaned up, even if the store has lost their bucket or metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import upload_sessions
from ragsvc.errors.work import ProviderRejected
from ragsvc.uploads.sessions import open_session
from ragsvc.uploads.sweeper import sweep_uploads
from ragsvc.uploads.tails import COUNTED_BYTES, PART_NUMBER, Tail, load_tail

if TYPE_CHECKING:
    import pytest

    from ragsvc.domain.uploads import Upload
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources


async def open_upload(resources: Resources, workspace: Workspace) -> Upload:
    """Open a session."""
    return await open_session(
        resources,
        workspace,
        filename="kettles.txt",
        size_bytes=9,
        mime_type="text/plain",
        sha256=None,
        collection_id=None,
        attributes={},
        chunking=None,
    )


async def test_a_missing_bucket_does_not_block_the_cleanup_of_other_uploads(
    resources: Resources, workspace: Workspace
) -> None:
    upload = await open_upload(resources, workspace)
    await resources.storage.delete_all_objects(workspace.bucket)
    await resources.storage.delete_bucket(workspace.bucket)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE upload_sessions SET expires_at = now() - interval '1 s'")
    assert await sweep_uploads(resources) == 1
    async with resources.pool.acquire() as conn:
        assert await upload_sessions.select_unclean_uploads(conn, limit=10) == []
        cleaned = await upload_sessions.select_upload(conn, workspace.id, upload.id)
    assert cleaned is not None
    assert cleaned.status == "expired"


async def test_an_upload_that_cannot_be_cleaned_is_postponed_and_delays_no_other(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = await open_upload(resources, workspace), await open_upload(resources, workspace)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE upload_sessions SET expires_at = now() - interval '1 s'")
        await conn.execute("UPDATE upload_sessions SET updated_at = now() - interval '1 h' WHERE id = $1", stuck.id)
    delete_object = resources.storage.delete_object

    async def refuse(bucket: str, object_key: str) -> None:
        if object_key == stuck.object_key:
            raise ProviderRejected("storage_rejected", "the bucket refuses")
        await delete_object(bucket, object_key)

    with monkeypatch.context() as patched:
        patched.setattr(type(resources.storage), "delete_object", staticmethod(refuse))
        assert await sweep_uploads(resources) == 1
        assert await sweep_uploads(resources) == 0
    async with resources.pool.acquire() as conn:
        assert await upload_sessions.select_unclean_uploads(conn, limit=10) == []
        await conn.execute("UPDATE upload_sessions SET sweep_after = now() - interval '1 s' WHERE id = $1", stuck.id)
        assert [one.id for one in await upload_sessions.select_unclean_uploads(conn, limit=10)] == [stuck.id]
    assert await sweep_uploads(resources) == 1
    assert other.id != stuck.id


async def test_a_tail_without_metadata_is_ignored(resources: Resources, workspace: Workspace) -> None:
    upload = await open_upload(resources, workspace)
    storage, metadata = resources.storage, {PART_NUMBER: "1", COUNTED_BYTES: "3"}
    await storage.put_object(upload.bucket, upload.tail_key, body=b"boi", metadata={})
    assert await load_tail(resources, upload) is None
    await storage.put_object(upload.bucket, upload.tail_key, body=b"boi", metadata=metadata)
    assert await load_tail(resources, upload) == Tail(1, 3, 3)
