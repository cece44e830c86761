"""Removes the stored objects of documents: of their current, next and replaced files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import deletion_receipts, files
from ragsvc.errors.work import TransientFailure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.domain.deletions import Deletion
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources


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
        if self._bucket is None:
            return
        storage = self._resources.storage
        existing = await storage.select_existing(self._bucket, [file.object_key for file in found])
        stored = {file.id for file in found if file.object_key in existing}
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
        keys = [file.object_key for file in found if file.id in closed or file.is_closed]
        await storage.delete_objects(self._bucket, keys)
        # Looked at now, while the keys are still known.
        if left := await storage.select_existing(self._bucket, keys):
            raise TransientFailure("deletion_incomplete", f"the object store still has {len(left)} files")
