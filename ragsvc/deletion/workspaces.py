"""Removes what a workspace has besides its documents, and counts what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import deletion_receipts, embedding_cache, workspace_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.workspaces import Location
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

CACHE_BATCH = 5000
ROW_BATCH = 2000


class WorkspaceRemover:
    """Removes a workspace without documents under one lease and counts the removals in one receipt."""

    def __init__(self, resources: Resources, lease: Lease, deletion: Deletion) -> None:
        self._resources = resources
        self._lease = lease
        self._deletion = deletion

    async def remove_rows(self) -> None:
        """Remove the workspace's rows in batches: one transaction for all of them could take too long."""
        workspace_id, own_job_id = self._deletion.workspace_id, self._lease.job.id
        for store, tables in workspace_rows.STORES.items():
            for table in tables:
                await self._in_batches(
                    store,
                    lambda conn, table=table: workspace_rows.delete_rows(  # type: ignore[misc]
                        conn, workspace_id, table=table, limit=ROW_BATCH
                    ),
                )
        await self._in_batches(
            "jobs",
            lambda conn: workspace_rows.delete_jobs(conn, workspace_id, except_id=own_job_id, limit=ROW_BATCH),
        )
        await self._in_batches(
            "embedding_cache",
            lambda conn: embedding_cache.delete_scope(conn, scope=workspace_id, limit=CACHE_BATCH),
        )

    async def empty_location(self, location: Location) -> None:
        """Remove all objects; they are counted first, so that a killed deletion can be repeated."""
        storage, deletion = self._resources.storage, self._deletion
        found = await storage.count_all_objects(location.bucket, prefix=location.key_prefix)
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await deletion_receipts.add_found(conn, deletion.workspace_id, deletion.id, store="objects", count=found)
            await self._lease.fence(conn)
        await storage.delete_all_objects(location.bucket, prefix=location.key_prefix)
        if not location.is_shared:
            await storage.delete_bucket(location.bucket)
        await self._lease.advance()

    async def _in_batches(self, store: str, remove: Callable[[Connection], Awaitable[int]]) -> None:
        while True:
            async with self._resources.pool.acquire() as conn, conn.transaction():
                removed = await remove(conn)
                if not removed:
                    return
                await deletion_receipts.add_removed(
                    conn, self._deletion.workspace_id, self._deletion.id, store=store, count=removed
                )
                await self._lease.fence(conn)
            await self._lease.advance()
