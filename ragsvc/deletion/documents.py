"""Removes one document from every store that contains its data."""

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
    idempotency_keys,
    jobs,
    upload_sessions,
)
from ragsvc.domain.jobs import Queue
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.errors import OutageFailure, TransientFailure
from ragsvc.jobs.announcements import announce
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.run_streams import count_runs, delete_runs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.deletions import Deletion
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

# An HNSW index handles about 1,000 deletions per second, so the transaction of one batch holds its locks for about a
# second.
BATCH = 1000


class DocumentRemover:
    """Removes documents under one lease and counts the removals in one receipt."""

    def __init__(self, resources: Resources, lease: Lease, deletion: Deletion, *, bucket: str | None) -> None:
        self._resources = resources
        self._lease = lease
        self._deletion = deletion
        self._bucket = bucket

    async def remove(self, document_id: UUID) -> None:
        """Remove all data of a document that is marked `deleting`, its row last.

        Raises:
            LeaseLost: another worker has the job.
        """
        await self._remove_index(document_id)
        await self._redact_chat(document_id)
        await self._remove_run_streams(document_id)
        await self._blank_responses(document_id)
        await self._purge_files(document_id)
        await self._remove_row(document_id)

    async def _remove_index(self, document_id: UUID) -> None:
        workspace_id = self._deletion.workspace_id
        async with self._resources.pool.acquire() as conn:
            spaces = await embedding_spaces.select_embedding_spaces(conn)
        for space in spaces:
            await self._in_batches(
                "vectors",
                lambda conn, space=space: chunks.delete_chunk_vectors(  # type: ignore[misc]
                    conn, workspace_id, document_id, space=space, limit=BATCH
                ),
            )
        await self._in_batches(
            "chunks",
            lambda conn: chunks.delete_chunk_texts(conn, workspace_id, document_id, limit=BATCH),
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
        """Remove the event streams of runs that used the document, instead of waiting until they expire."""
        resources, workspace_id = self._resources, self._deletion.workspace_id
        last: UUID | None = None
        while True:
            async with resources.pool.acquire() as conn:
                run_ids = await chat_messages.select_run_ids_of_document(
                    conn, workspace_id, document_id, after=last, limit=BATCH
                )
            if not run_ids:
                return
            last = run_ids[-1]
            try:
                await self._remove_streams(run_ids, mark=f"{document_id.hex}-{last.hex}")
            except REDIS_TROUBLE as error:
                raise OutageFailure("redis_unavailable", f"Redis is unavailable: {error}") from error

    async def _remove_streams(self, run_ids: Sequence[UUID], *, mark: str) -> None:
        """Count the existing streams and remove them; `mark` prevents a retry from counting them twice."""
        redis, prefix, deletion = self._resources.redis, self._resources.settings.stores.queue_prefix, self._deletion
        found = await count_runs(redis, prefix, run_ids)
        if not found:
            return
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await self._lease.fence(conn)
            await deletion_receipts.add_found(
                conn, deletion.workspace_id, deletion.id, store="run_streams", count=found, mark=mark
            )
        await delete_runs(redis, prefix, run_ids)

    async def _blank_responses(self, document_id: UUID) -> None:
        """Blank the responses stored under idempotency keys; the keys remain, so a repeated call is not executed."""
        workspace_id = self._deletion.workspace_id
        await self._in_batches(
            "idempotent_answers", lambda conn: idempotency_keys.blank_responses(conn, workspace_id, document_id)
        )

    async def _purge_files(self, document_id: UUID) -> None:
        """Remove the objects unless another document uses them; the rows are deleted with their last document.

        A file pending as the next version is removed even without `purge_file`, since it was never visible.
        """
        async with self._resources.pool.acquire() as conn:
            document = await documents.select_document(conn, self._deletion.workspace_id, document_id)
        if document is None:
            return
        if document.pending_file_id is not None:
            await self._purge_file(document.pending_file_id)
        if self._deletion.purge_file:
            await self._purge_file(document.file_id)

    async def _purge_file(self, file_id: UUID) -> None:
        """Close a file, count its object, then remove it, in this order so that a killed deletion can be retried."""
        workspace_id, storage = self._deletion.workspace_id, self._resources.storage
        async with self._resources.pool.acquire() as conn:
            file = await files.select_file(conn, workspace_id, file_id)
        exists = (
            file is not None and self._bucket is not None and await storage.object_exists(self._bucket, file.object_key)
        )
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await self._lease.fence(conn)
            locked = await files.lock_file_row(conn, workspace_id, file_id)
            if locked is None:
                return
            object_key, closed_by = locked
            if closed_by is None:
                if not await files.mark_file_purged(conn, workspace_id, file_id, deletion_id=self._deletion.id):
                    return
                await self._count(conn, "objects", int(exists))
        if self._bucket is not None:
            await storage.delete_object(self._bucket, object_key)
            # Verify now, while the object key is still known.
            if await storage.object_exists(self._bucket, object_key):
                raise TransientFailure("deletion_incomplete", "the object store still has the file")

    async def _remove_row(self, document_id: UUID) -> None:
        workspace_id = self._deletion.workspace_id
        async with self._resources.pool.acquire() as conn, conn.transaction():
            document = await documents.select_document(conn, workspace_id, document_id)
            if document is None:
                return
            await documents.lock_document(conn, workspace_id, document_id)
            await self._lease.fence(conn)
            of_document = sorted({document.file_id, document.pending_file_id or document.file_id})
            for file_id in of_document:
                await files.lock_file_row(conn, workspace_id, file_id)
            removed = await jobs.delete_jobs_of_subject(
                conn, workspace_id, subject_id=document_id, queue=Queue.INGESTION
            )
            await self._count(conn, "jobs", removed)
            await self._count(
                conn, "uploads", await upload_sessions.delete_uploads_of_document(conn, workspace_id, document_id)
            )
            await documents.delete_document(conn, workspace_id, document_id)
            await self._count(conn, "documents", 1)
            await announce(conn, WebhookEvent.DOCUMENT_DELETED, workspace_id=workspace_id, document_id=document_id)
            for file_id in of_document:
                if await files.delete_purged_file(conn, workspace_id, file_id):
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
