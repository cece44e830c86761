"""Workspaces for tests below the HTTP layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db.collections import insert_collection
from ragsvc.db.workspaces import insert_workspace
from ragsvc.domain.ids import new_id
from ragsvc.storage.locations import choose_location

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Pool
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from ragsvc.storage.store import Storage


async def create_workspace(
    pool: Pool, storage: Storage, settings: Settings, *, name: str = "a workspace", quota_bytes: int | None = None
) -> Workspace:
    """Create a workspace with its bucket and the collection `default`."""
    workspace_id = new_id()
    location = choose_location(settings, workspace_id)
    await storage.create_bucket(location.bucket)
    async with pool.acquire() as conn, conn.transaction():
        workspace = await insert_workspace(conn, workspace_id, name=name, location=location, quota_bytes=quota_bytes)
        await insert_collection(conn, workspace_id, new_id(), name="default", is_default=True)
    return workspace
