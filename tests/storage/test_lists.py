"""Listings of the store are read to the last page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.storage.store import Storage


async def test_unfinished_uploads_are_listed_across_pages_with_their_time(
    storage: Storage, workspace: Workspace
) -> None:
    created = {
        (key, await storage.create_multipart(workspace.bucket, key, mime_type="a/b"))
        for key in ("objects/1", "objects/1", "objects/1", "objects/2", "other/3")
    }
    listed = await storage.list_multiparts(workspace.bucket, page_size=2)
    assert {(one.object_key, one.upload_id) for one in listed} == created
    assert len(listed) == 5
    assert all(abs(datetime.now(UTC) - one.initiated_at) < timedelta(minutes=5) for one in listed)
    some = await storage.list_multiparts(workspace.bucket, prefix="objects/", page_size=3)
    assert len(some) == 4


async def test_objects_are_listed_by_key_across_pages(storage: Storage, workspace: Workspace) -> None:
    for key in ("b", "a", "c"):
        upload_id = await storage.create_multipart(workspace.bucket, key, mime_type="a/b")
        part = await storage.upload_part(workspace.bucket, key, upload_id=upload_id, number=1, body=key.encode())
        await storage.complete_multipart(workspace.bucket, key, upload_id=upload_id, parts=[part])
    first = await storage.list_objects(workspace.bucket, page_size=2)
    rest = await storage.list_objects(workspace.bucket, after=first[-1].object_key, page_size=2)
    assert [one.object_key for one in (*first, *rest)] == ["a", "b", "c"]
    assert all(abs(datetime.now(UTC) - one.modified_at) < timedelta(minutes=5) for one in first)
