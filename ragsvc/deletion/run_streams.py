"""Removes the event streams of runs that used a deleted document, instead of waiting until they expire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import chat_messages, chat_runs, deletion_receipts
from ragsvc.errors import OutageFailure
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.run_streams import count_runs, delete_runs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from ragsvc.domain.deletions import Deletion
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

BATCH = 1000


class RunStreamRemover:
    """Removes run streams under one lease and counts them in one receipt."""

    def __init__(self, resources: Resources, lease: Lease, deletion: Deletion) -> None:
        self._resources = resources
        self._lease = lease
        self._deletion = deletion

    async def remove(self, document_id: UUID) -> None:
        """Cancel the runs that are still being written with the document, and remove the streams of all.

        A cancelled run can write to its stream once more; `count` then finds it, and the deletion is repeated.
        """
        async for run_ids in self._pages(document_id):
            async with self._resources.pool.acquire() as conn:
                for run_id in run_ids:
                    await chat_runs.update_cancel_requested(conn, self._deletion.workspace_id, run_id)
            try:
                await self._remove(run_ids, mark=f"{document_id.hex}-{run_ids[-1].hex}")
            except REDIS_TROUBLE as error:
                raise OutageFailure("redis_unavailable", "Redis is unavailable") from error

    async def count(self, document_id: UUID) -> int:
        """Return how many streams of the document's runs there are."""
        redis, prefix = self._resources.redis, self._resources.settings.stores.queue_prefix
        try:
            return sum([await count_runs(redis, prefix, run_ids) async for run_ids in self._pages(document_id)])
        except REDIS_TROUBLE as error:
            raise OutageFailure("redis_unavailable", "Redis is unavailable") from error

    async def _pages(self, document_id: UUID) -> AsyncIterator[list[UUID]]:
        last: UUID | None = None
        while True:
            async with self._resources.pool.acquire() as conn:
                run_ids = await chat_messages.select_run_ids_of_document(
                    conn, self._deletion.workspace_id, document_id, after=last, limit=BATCH
                )
            if not run_ids:
                return
            last = run_ids[-1]
            yield run_ids

    async def _remove(self, run_ids: Sequence[UUID], *, mark: str) -> None:
        """Count the existing streams and remove them; `mark` prevents a retry from counting them twice."""
        redis, prefix, deletion = self._resources.redis, self._resources.settings.stores.queue_prefix, self._deletion
        found = await count_runs(redis, prefix, run_ids)
        if not found:
            return
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await deletion_receipts.add_found(
                conn, deletion.workspace_id, deletion.id, store="run_streams", count=found, mark=mark
            )
            await self._lease.fence(conn)
        await delete_runs(redis, prefix, run_ids)
