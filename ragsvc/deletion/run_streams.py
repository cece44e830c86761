"""Removes the event streams of runs that used a deleted document, instead of waiting until they expire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import chat_messages, chat_runs, deletion_receipts
from ragsvc.errors.work import OutageFailure, TransientFailure
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.run_streams import EVENTS_TTL_S, close_streams, count_streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from ragsvc.domain.deletions import Deletion
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

BATCH = 1000
# A stream can outlive its run by the whole time that its events are kept.
STREAMED_S = EVENTS_TTL_S + 60


class RunStreamRemover:
    """Removes run streams under one lease and counts them in one receipt."""

    def __init__(self, resources: Resources, lease: Lease, deletion: Deletion) -> None:
        self._resources = resources
        self._lease = lease
        self._deletion = deletion

    async def remove(self, document_id: UUID) -> None:
        """Cancel the runs that are still being written with the document, and close the streams of all."""
        async for run_ids in self._pages(document_id):
            async with self._resources.pool.acquire() as conn:
                for run_id in run_ids:
                    await chat_runs.update_cancel_requested(conn, self._deletion.workspace_id, run_id)
            try:
                await self._remove(run_ids, mark=f"{document_id.hex}-{run_ids[-1].hex}")
            except REDIS_TROUBLE as error:
                raise OutageFailure("redis_unavailable", "Redis is unavailable") from error

    async def remove_all(self) -> None:
        """End all runs of the workspace, remove their streams and check that none is left; their rows go next.

        Raises:
            TransientFailure: a stream is left.
        """
        resources, workspace_id = self._resources, self._deletion.workspace_id
        async with resources.pool.acquire() as conn, conn.transaction():
            await chat_runs.interrupt_all_runs(conn, workspace_id)
            await self._lease.fence(conn)
        left = 0
        async for run_ids in self._pages(None):
            try:
                await self._remove(run_ids, mark=f"{run_ids[0].hex}-{run_ids[-1].hex}")
                left += await count_streams(resources.redis, resources.settings.stores.queue_prefix, run_ids)
            except REDIS_TROUBLE as error:
                raise OutageFailure("redis_unavailable", "Redis is unavailable") from error
        if left:
            raise TransientFailure("deletion_incomplete", f"{left} event streams remain after the deletion")

    async def count(self, document_id: UUID) -> int:
        """Return how many streams of the document's runs there are."""
        redis, prefix = self._resources.redis, self._resources.settings.stores.queue_prefix
        try:
            return sum([await count_streams(redis, prefix, run_ids) async for run_ids in self._pages(document_id)])
        except REDIS_TROUBLE as error:
            raise OutageFailure("redis_unavailable", "Redis is unavailable") from error

    async def _pages(self, document_id: UUID | None) -> AsyncIterator[list[UUID]]:
        """Yield the runs that can have a stream and used the document, or all of the workspace."""
        workspace_id = self._deletion.workspace_id
        last: UUID | None = None
        while True:
            async with self._resources.pool.acquire() as conn:
                if document_id is None:
                    run_ids = await chat_runs.select_streamed_runs(
                        conn, workspace_id, within_s=STREAMED_S, after=last, limit=BATCH
                    )
                else:
                    run_ids = await chat_messages.select_run_ids_of_document(
                        conn, workspace_id, document_id, within_s=STREAMED_S, after=last, limit=BATCH
                    )
            if not run_ids:
                return
            last = run_ids[-1]
            yield run_ids

    async def _remove(self, run_ids: Sequence[UUID], *, mark: str) -> None:
        """Count the existing streams and close them; `mark` prevents a retry from counting them twice."""
        redis, prefix, deletion = self._resources.redis, self._resources.settings.stores.queue_prefix, self._deletion
        if found := await count_streams(redis, prefix, run_ids):
            async with self._resources.pool.acquire() as conn, conn.transaction():
                await deletion_receipts.add_found(
                    conn, deletion.workspace_id, deletion.id, store="run_streams", count=found, mark=mark
                )
                await self._lease.fence(conn)
        # Also where there is none: an owner that was frozen could still make it.
        await close_streams(redis, prefix, run_ids)
