"""Removes the stored objects of documents: of their current, next and replaced files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ragsvc.db import deletion_receipts, files
from ragsvc.errors import TransientFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from ragsvc.db.files import DocumentFile
    from ragsvc.domain.deletions import Deletion
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

# Concurrent calls to the object store.
MAX_CONCURRENT_CALLS = 16


class ObjectRemover:
    """Removes objects under one lease and counts them in one receipt; `bucket` is None once it is gone."""

    def __init__(self, resources: Resources, lease: Lease, deletion: Deletion, *, bucket: str | None) -> None:
        self._resources = resources
        self._lease = lease
        self._deletion = deletion
        self._bucket = bucket

    async def purge(self, document_ids: Sequence[UUID]) -> None:
        """Remove the objects unless another document uses them; the rows are deleted with their last document.

        Files of next and of replaced versions are removed even without `purge_file`. Each file is closed and its object
        counted before the object is removed, so that a killed deletion can be repeated.
        """
        workspace_id, deletion = self._deletion.workspace_id, self._deletion
        async with self._resources.pool.acquire() as conn:
            found = await files.select_files_of_documents(
                conn, workspace_id, document_ids, with_current=deletion.purge_file
            )
        if not found:
            return
        stored = {file.id for file, exists in zip(found, await self._each(found, self._exists), strict=True) if exists}
        async with self._resources.pool.acquire() as conn, conn.transaction():
            closed = await files.mark_files_purged(
                conn,
                workspace_id,
                [file.id for file in found],
                document_ids=document_ids,
                deletion_id=deletion.id,
            )
            await deletion_receipts.add_removed(
                conn, workspace_id, deletion.id, store="objects", count=len(stored & closed)
            )
            await self._lease.fence(conn)
        await self._each([file for file in found if file.id in closed or file.is_closed], self._remove)

    async def _each(self, found: Sequence[DocumentFile], call: Callable[[DocumentFile], Awaitable[bool]]) -> list[bool]:
        turns = asyncio.Semaphore(MAX_CONCURRENT_CALLS)

        async def run(file: DocumentFile) -> bool:
            async with turns:
                return await call(file)

        return await asyncio.gather(*(run(file) for file in found))

    async def _exists(self, file: DocumentFile) -> bool:
        return self._bucket is not None and await self._resources.storage.object_exists(self._bucket, file.object_key)

    async def _remove(self, file: DocumentFile) -> bool:
        """Remove an object, and verify that now, while its key is still known."""
        if self._bucket is not None:
            await self._resources.storage.delete_object(self._bucket, file.object_key)
            if await self._resources.storage.object_exists(self._bucket, file.object_key):
                raise TransientFailure("deletion_incomplete", "the object store still has the file")
        return True
