"""Removes one document from every store that holds a word of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import (
    canonical_text,
    chat_messages,
    chunks,
    deletion_receipts,
    documents,
    embedding_spaces,
    files,
    jobs,
)
from ragsvc.errors import OutageFailure
from ragsvc.models.jobs import Queue
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.run_streams import delete_runs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from ragsvc.db.pool import Connection
    from ragsvc.jobs.lease import Lease
    from ragsvc.models.deletions import Deletion
    from ragsvc.resources import Resources

# An HNSW index takes about a thousand removals a second, and a lock should not be held for longer.
BATCH = 1000


class DocumentRemover:
    """Removes documents under one lease, counting into one receipt."""

    def __init__(self, resources: Resources, lease: Lease, deletion: Deletion, *, bucket: str | None) -> None:
        self._resources = resources
        self._lease = lease
        self._deletion = deletion
        self._bucket = bucket

    async def remove(self, document_id: UUID) -> None:
        """Remove everything of a document that is marked `deleting`, its row last.

        Raises:
            LeaseLost: another worker has the job.
        """
        await self._remove_index(document_id)
        await self._redact_chat(document_id)
        await self._remove_run_streams(document_id)
        await self._purge_file(document_id)
        await self._remove_row(document_id)

    async def _remove_index(self, document_id: UUID) -> None:
        workspace_id = self._deletion.workspace_id
        async with self._resources.pool.acquire() as conn:
            spaces = await embedding_spaces.select_embedding_spaces(conn)
        for space in spaces:
            await self._in_batches(
                "vectors",
                lambda conn, space=space: chunks.delete_chunk_vectors(  # type: ignore[misc]
                    conn, workspace_id, document_id, space=space, keep_build=None, limit=BATCH
                ),
            )
        await self._in_batches(
            "chunks",
            lambda conn: chunks.delete_chunk_texts(conn, workspace_id, document_id, keep_build=None, limit=BATCH),
        )
        await self._in_batches(
            "canonical_text", lambda conn: canonical_text.delete_texts(conn, workspace_id, document_id)
        )

    async def _redact_chat(self, document_id: UUID) -> None:
        workspace_id = self._deletion.workspace_id
        await self._in_batches(
            "chat_messages",
            lambda conn: chat_messages.redact_document(conn, workspace_id, document_id, limit=BATCH),
        )

    async def _remove_run_streams(self, document_id: UUID) -> None:
        """Remove the events of the runs that were given the document's words; they would go by themselves in time."""
        resources, workspace_id = self._resources, self._deletion.workspace_id
        last: UUID | None = None
        while True:
            async with resources.pool.acquire() as conn:
                run_ids = await chat_messages.select_run_ids_of_document(
                    conn, workspace_id, document_id, after=last, limit=BATCH
                )
            if not run_ids:
                return
            try:
                removed = await delete_runs(resources.redis, resources.settings.queue_prefix, run_ids)
            except REDIS_TROUBLE as error:
                raise OutageFailure("redis_unavailable", f"Redis is away: {error}") from error
            async with resources.pool.acquire() as conn:
                await self._count(conn, "run_streams", removed)
            last = run_ids[-1]

    async def _purge_file(self, document_id: UUID) -> None:
        """Remove the object, unless a document that stays uses it; the row goes with the last document."""
        workspace_id = self._deletion.workspace_id
        if not self._deletion.purge_file or self._bucket is None:
            return
        async with self._resources.pool.acquire() as conn, conn.transaction():
            document = await documents.select_document(conn, workspace_id, document_id)
            if document is None:
                return
            await self._lease.fence(conn)
            object_key = await files.mark_file_purged(
                conn, workspace_id, document.file_id, deletion_id=self._deletion.id
            )
        if object_key is None:
            return
        if await self._resources.storage.delete_object(self._bucket, object_key):
            async with self._resources.pool.acquire() as conn:
                await self._count(conn, "objects", 1)

    async def _remove_row(self, document_id: UUID) -> None:
        workspace_id = self._deletion.workspace_id
        async with self._resources.pool.acquire() as conn, conn.transaction():
            document = await documents.select_document(conn, workspace_id, document_id)
            if document is None:
                return
            await documents.lock_document(conn, workspace_id, document_id)
            await self._lease.fence(conn)
            await files.lock_file_row(conn, workspace_id, document.file_id)
            removed = await jobs.delete_jobs_of_subject(
                conn, workspace_id, subject_id=document_id, queue=Queue.INGESTION
            )
            await self._count(conn, "jobs", removed)
            await documents.delete_document(conn, workspace_id, document_id)
            await self._count(conn, "documents", 1)
            if await files.delete_purged_file(conn, workspace_id, document.file_id):
                await self._count(conn, "files", 1)

    async def _in_batches(self, store: str, remove: Callable[[Connection], Awaitable[int]]) -> None:
        while True:
            async with self._resources.pool.acquire() as conn, conn.transaction():
                await self._lease.fence(conn)
                removed = await remove(conn)
                if not removed:
                    return
                await self._count(conn, store, removed)

    async def _count(self, conn: Connection, store: str, count: int) -> None:
        await deletion_receipts.add_removed(
            conn, self._deletion.workspace_id, self._deletion.id, store=store, count=count
        )
