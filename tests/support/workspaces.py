"""Workspaces for tests below the HTTP floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.collections import insert_collection
from ragsvc.db.workspaces import insert_workspace
from ragsvc.models.ids import new_id

if TYPE_CHECKING:
    from ragsvc.db.pool import Pool
    from ragsvc.models.workspaces import Workspace
    from ragsvc.settings import Settings
    from ragsvc.storage.store import Storage


async def create_workspace(
    pool: Pool, storage: Storage, settings: Settings, *, name: str = "a workspace", quota_bytes: int | None = None
) -> Workspace:
    """Make a workspace with its bucket and the collection `default`."""
    workspace_id = new_id()
    bucket = f"{settings.s3_bucket_prefix}-{workspace_id.hex}"
    await storage.create_bucket(bucket)
    async with pool.acquire() as conn, conn.transaction():
        workspace = await insert_workspace(conn, workspace_id, name=name, bucket=bucket, quota_bytes=quota_bytes)
        await insert_collection(conn, workspace_id, new_id(), name="default", is_default=True)
    return workspace
