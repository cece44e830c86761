"""Orphans are removed from our own buckets, and nothing else is removed."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import files, storage_audits, upload_sessions
from ragsvc.devstack.ports import free_ports
from ragsvc.domain.ids import new_id
from ragsvc.domain.uploads import UploadStatus
from ragsvc.storage.store import open_storage
from ragsvc.uploads import orphans
from ragsvc.uploads.orphans import FindingKind, find_missing_objects, find_orphans, remove_orphan, sweep_orphans
from ragsvc.uploads.sessions import open_session
from tests.support.documents.documents import accept

if TYPE_CHECKING:
    from ragsvc.domain.uploads import Upload
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from ragsvc.storage.store import Storage


@pytest.fixture(params=["workspace", "shared"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Settings with an orphan TTL near zero; tests run with a bucket per workspace and with a shared one."""
    return settings.changed({"orphan_ttl_s": 0.001, "s3_bucket_mode": request.param})


async def put_object(storage: Storage, bucket: str, key: str) -> None:
    upload_id = await storage.create_multipart(bucket, key, mime_type="text/plain")
    part = await storage.upload_part(bucket, key, upload_id=upload_id, number=1, body=b"x")
    await storage.complete_multipart(bucket, key, upload_id=upload_id, parts=[part])


async def open_upload(resources: Resources, workspace: Workspace) -> Upload:
    return await open_session(
        resources,
        workspace,
        filename="a.txt",
        size_bytes=1,
        mime_type="text/plain",
        sha256=None,
        collection_id=None,
        attributes={},
        chunking=None,
    )


async def make_due(resources: Resources) -> None:
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE workspaces SET audit_due_at = now()")


async def orphans_of(resources: Resources, workspace: Workspace, *, ttl_s: float = 0.0) -> set[tuple[str, str]]:
    found = [one async for one in find_orphans(resources, workspace, ttl_s=ttl_s, page_size=2)]
    return {(one.kind.value, one.object_key) for one in found}


async def test_objects_and_uploads_without_a_row_are_removed(resources: Resources, workspace: Workspace) -> None:
    bucket, storage = workspace.bucket, resources.storage
    keys = [workspace.object_key(new_id()) for _ in range(5)]
    for key in keys:
        await put_object(storage, bucket, key)
    unknown_key = f"{workspace.key_prefix}somebody else's"
    await put_object(storage, bucket, unknown_key)
    unfinished = workspace.object_key(new_id())
    await storage.create_multipart(bucket, unfinished, mime_type="text/plain")
    expected = {("object", key) for key in (*keys, unknown_key)} | {("multipart", unfinished)}
    assert await orphans_of(resources, workspace) == expected
    await make_due(resources)
    assert await sweep_orphans(resources) == 7
    assert await orphans_of(resources, workspace) == set()
    assert await storage.count_objects(bucket) == 0
    assert await storage.list_multiparts(bucket) == []


async def test_recent_orphans_are_not_removed(resources: Resources, workspace: Workspace) -> None:
    await put_object(resources.storage, workspace.bucket, workspace.object_key(new_id()))
    await resources.storage.create_multipart(workspace.bucket, workspace.object_key(new_id()), mime_type="a/b")
    assert await orphans_of(resources, workspace, ttl_s=600) == set()


async def test_an_upload_in_progress_is_never_an_orphan(resources: Resources, workspace: Workspace) -> None:
    upload = await open_upload(resources, workspace)
    # As if the process had been killed before recording the store's upload id; the upload also has a tail.
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE upload_sessions SET s3_upload_id = NULL WHERE id = $1", upload.id)
    await put_object(resources.storage, workspace.bucket, f"{upload.object_key}.tail")
    assert await orphans_of(resources, workspace) == set()
    # Ended but not cleaned up yet: `sweep_uploads` handles that.
    async with resources.pool.acquire() as conn:
        await upload_sessions.close_upload(conn, workspace.id, upload.id, status=UploadStatus.ABORTED)
    assert await orphans_of(resources, workspace) == set()
    async with resources.pool.acquire() as conn:
        await upload_sessions.update_cleaned(conn, workspace.id, upload.id)
    assert await orphans_of(resources, workspace) == {
        ("multipart", upload.object_key),
        ("object", f"{upload.object_key}.tail"),
    }


async def test_a_files_object_is_retained_and_a_leftover_multipart_upload_is_removed(
    resources: Resources, workspace: Workspace
) -> None:
    document = await accept(resources, workspace)
    async with resources.pool.acquire() as conn:
        file = await files.select_file(conn, workspace.id, document.file_id)
    assert file is not None
    # As if the first response had been lost and the request retried.
    await resources.storage.create_multipart(workspace.bucket, file.object_key, mime_type="a/b")
    await make_due(resources)
    assert await sweep_orphans(resources) == 1
    assert await resources.storage.object_exists(workspace.bucket, file.object_key)
    assert [one async for one in find_missing_objects(resources, workspace)] == []


async def test_buckets_of_other_environments_are_not_touched(resources: Resources, workspace: Workspace) -> None:
    foreign_bucket = f"{resources.settings.stores.s3_bucket_prefix}-{new_id().hex}"
    key = f"objects/{new_id().hex}"
    await resources.storage.create_bucket(foreign_bucket)
    await put_object(resources.storage, foreign_bucket, key)
    await make_due(resources)
    assert await sweep_orphans(resources) == 0
    assert await resources.storage.object_exists(foreign_bucket, key)
    assert workspace.bucket != foreign_bucket


async def test_files_without_an_object_are_reported_and_not_removed(resources: Resources, workspace: Workspace) -> None:
    documents = [await accept(resources, workspace, f"text {n}".encode()) for n in range(3)]
    async with resources.pool.acquire() as conn:
        file = await files.select_file(conn, workspace.id, documents[1].file_id)
    assert file is not None
    await resources.storage.delete_object(workspace.bucket, file.object_key)
    (found,) = [one async for one in find_missing_objects(resources, workspace, page_size=2)]
    assert (found.kind, found.file_id) == (FindingKind.MISSING, file.id)
    await remove_orphan(resources, found)
    async with resources.pool.acquire() as conn:
        assert await files.select_file(conn, workspace.id, file.id) == file


async def claim(resources: Resources) -> bool:
    async with resources.pool.acquire() as conn:
        return await storage_audits.claim_audit(conn, lease_s=600) is not None


async def test_a_bucket_is_claimed_by_one_process_and_due_again_only_later(
    resources: Resources, workspace: Workspace
) -> None:
    assert not await claim(resources)  # a new bucket is not yet due for an audit
    await make_due(resources)
    assert sum(await asyncio.gather(*(claim(resources) for _ in range(5)))) == 1
    async with resources.pool.acquire() as conn:
        await storage_audits.update_audit(conn, workspace.id, after="", due_in_s=600)
    assert not await claim(resources)
    async with resources.pool.acquire() as conn:
        await storage_audits.update_audit(conn, workspace.id, after="objects/1", due_in_s=0)
        claimed = await storage_audits.claim_audit(conn, lease_s=600)
    assert claimed == (workspace, "objects/1")


async def test_a_bucket_of_a_workspace_being_deleted_is_not_claimed(resources: Resources, workspace: Workspace) -> None:
    await make_due(resources)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE workspaces SET deletion_id = gen_random_uuid() WHERE id = $1", workspace.id)
    assert not await claim(resources)


async def test_an_unreachable_bucket_can_be_claimed_again_later(resources: Resources, workspace: Workspace) -> None:
    unreachable = resources.settings.changed({"s3_endpoint_url": f"http://127.0.0.1:{free_ports(1)[0]}"})
    await make_due(resources)
    async with open_storage(unreachable) as storage:
        assert await sweep_orphans(dataclasses.replace(resources, storage=storage)) == 0
    async with resources.pool.acquire() as conn:
        left_s = await conn.fetchval(
            "SELECT extract(epoch FROM audit_due_at - now()) FROM workspaces WHERE id = $1", workspace.id
        )
    assert 0 < left_s <= orphans.CLAIM_LEASE_S


async def test_a_large_bucket_is_scanned_in_slices(
    resources: Resources, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "PAGE_SIZE", 2)
    monkeypatch.setattr(orphans, "PAGES_PER_BUCKET", 1)
    monkeypatch.setattr(orphans, "BUCKETS_PER_SWEEP", 1)
    keys = sorted(workspace.object_key(new_id()) for _ in range(5))
    for key in keys:
        await put_object(resources.storage, workspace.bucket, key)
    await make_due(resources)
    assert [await sweep_orphans(resources) for _ in range(4)] == [2, 2, 1, 0]
    assert await resources.storage.count_objects(workspace.bucket) == 0
