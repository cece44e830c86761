"""Removes sets of documents from every store that contains their data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import (
    canonical_text,
    chat_messages,
    chat_runs,
    chunks,
    deletion_receipts,
    document_jobs,
    documents,
    embedding_spaces,
    files,
    idempotency_keys,
    upload_sessions,
    webhooks,
)
from ragsvc.deletion.objects import ObjectRemover
from ragsvc.deletion.run_streams import RunStreamRemover
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.errors.work import TransientFailure
from ragsvc.jobs.announcements import announce

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
# Each of these messages is loaded, redacted and written back.
MESSAGE_BATCH = 100


class DocumentRemover:
    """Removes documents under one lease and counts the removals in one receipt.

    Every transaction ends with the lease's fence, so that it holds the lock of the job's row only at its commit.
    """

    def __init__(self, resources: Resources, lease: Lease, deletion: Deletion, *, bucket: str | None) -> None:
        self._resources = resources
        self._lease = lease
        self._deletion = deletion
        self._workspace_id = deletion.workspace_id
        self._objects = ObjectRemover(resources, lease, deletion, bucket=bucket)
        self._streams = RunStreamRemover(resources, lease, deletion)

    async def remove(self, document_ids: Sequence[UUID]) -> None:
        """Hide the documents, remove all of their data, verify that, and remove their rows last.

        Raises:
            LeaseLost: another worker has the job.
            TransientFailure: data remains, for example because an answer with the document is still being written.
        """
        await self._hide(document_ids)
        await self._remove_index(document_ids)
        async with self._resources.pool.acquire() as conn:
            answered = await chat_messages.select_answered(conn, self._workspace_id, document_ids)
        for document_id in answered:
            await self._redact_chat(document_id)
            await self._streams.remove(document_id)
        await self._in_batches(
            "idempotent_answers",
            lambda conn: idempotency_keys.blank_responses(conn, self._workspace_id, document_ids),
            repeats=False,
        )
        await self._objects.purge(document_ids)
        await self._remove_records(document_ids)
        await self._verify(document_ids, answered)
        await self._remove_rows(document_ids)

    async def remove_with_workspace(self, document_ids: Sequence[UUID]) -> None:
        """Hide documents of a workspace that is being deleted, and remove their index and rows.

        Answers, responses, files and objects are not looked up for each document, since the workspace's all go.
        """
        await self._hide(document_ids)
        await self._remove_index(document_ids)
        async with self._resources.pool.acquire() as conn, conn.transaction():
            removed = await documents.delete_documents(conn, self._workspace_id, document_ids)
            await self._count(conn, "documents", len(removed))
            await self._lease.fence(conn)

    async def end_runs(self) -> None:
        """End all answers of a workspace that is being deleted, and remove their streams."""
        await self._streams.remove_all()

    async def remove_leftovers(self, *, collection_id: UUID | None) -> None:
        """Remove chunks of the collection, or of the whole workspace, whose document no longer exists."""
        await self._remove_index(None, collection_id=collection_id)

    async def _hide(self, document_ids: Sequence[UUID]) -> None:
        """Mark the documents and cancel what is running on them: afterwards, no worker can write for them."""
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await documents.update_documents_deleting(
                conn, self._workspace_id, document_ids, deletion_id=self._deletion.id
            )
            await document_jobs.cancel_ingestions(conn, self._workspace_id, document_ids)
            await self._lease.fence(conn)

    async def _remove_index(self, document_ids: Sequence[UUID] | None, *, collection_id: UUID | None = None) -> None:
        workspace_id = self._workspace_id
        async with self._resources.pool.acquire() as conn:
            spaces = await embedding_spaces.select_embedding_spaces(conn)
        for space in spaces:
            await self._in_batches(
                "vectors",
                lambda conn, space=space: chunks.delete_chunk_vectors(  # type: ignore[misc]
                    conn, workspace_id, document_ids, space=space, collection_id=collection_id, limit=BATCH
                ),
            )
        await self._in_batches(
            "chunks",
            lambda conn: chunks.delete_chunk_texts(
                conn, workspace_id, document_ids, collection_id=collection_id, limit=BATCH
            ),
        )
        if document_ids is not None:
            await self._in_batches(
                "canonical_text",
                lambda conn: canonical_text.delete_texts(conn, workspace_id, document_ids, limit=BATCH),
            )

    async def _redact_chat(self, document_id: UUID) -> None:
        """Remove the document's words from messages, after the answers that are being written from it have ended."""
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await chat_runs.interrupt_runs(conn, self._workspace_id, document_id)
            await self._lease.fence(conn)
        await self._in_batches(
            "chat_messages",
            lambda conn: chat_messages.redact_document(conn, self._workspace_id, document_id, limit=MESSAGE_BATCH),
        )

    async def _remove_records(self, document_ids: Sequence[UUID]) -> None:
        """Remove the jobs, deliveries and upload sessions of the documents."""
        async with self._resources.pool.acquire() as conn, conn.transaction():
            removed = await document_jobs.delete_ingestions(conn, self._workspace_id, document_ids)
            removed += await document_jobs.delete_deliveries_about(conn, self._workspace_id, document_ids)
            await self._count(conn, "jobs", removed)
            uploads = await upload_sessions.delete_uploads_of_documents(conn, self._workspace_id, document_ids)
            await self._count(conn, "uploads", uploads)
            await self._lease.fence(conn)

    async def _verify(self, document_ids: Sequence[UUID], answered: Sequence[UUID]) -> None:
        """Look at every store again while the documents' rows can still tell what belongs to them."""
        workspace_id = self._workspace_id
        async with self._resources.pool.acquire() as conn:
            left = {
                "idempotent_answers": await idempotency_keys.count_responses_about(conn, workspace_id, document_ids),
                "jobs": await document_jobs.count_ingestions(conn, workspace_id, document_ids)
                + await document_jobs.count_deliveries_about(conn, workspace_id, document_ids),
                "uploads": await upload_sessions.count_uploads_of_documents(conn, workspace_id, document_ids),
                "chat_messages": sum(
                    [await chat_messages.count_unredacted(conn, workspace_id, one) for one in answered]
                ),
            }
        left["run_streams"] = sum([await self._streams.count(one) for one in answered])
        if found := {store: count for store, count in left.items() if count}:
            raise TransientFailure("deletion_incomplete", f"data remains after the deletion: {found}")

    async def _remove_rows(self, document_ids: Sequence[UUID]) -> None:
        workspace_id = self._workspace_id
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await documents.update_documents_deleting(conn, workspace_id, document_ids, deletion_id=self._deletion.id)
            of_documents = await files.select_files_of_documents(conn, workspace_id, document_ids, with_current=True)
            removed = await documents.delete_documents(conn, workspace_id, document_ids)
            await self._count(conn, "documents", len(removed))
            purged = await files.delete_purged_files(conn, workspace_id, [file.id for file in of_documents])
            await self._count(conn, "files", purged)
            if await webhooks.select_listening(conn, workspace_id, WebhookEvent.DOCUMENT_DELETED):
                for document_id in removed:
                    await announce(
                        conn, WebhookEvent.DOCUMENT_DELETED, workspace_id=workspace_id, document_id=document_id
                    )
            await self._lease.fence(conn)

    async def _in_batches(
        self, store: str, remove: Callable[[Connection], Awaitable[int]], *, repeats: bool = True
    ) -> None:
        """Remove batch by batch until nothing is left; an operation that does not repeat removes all at once."""
        while True:
            async with self._resources.pool.acquire() as conn, conn.transaction():
                removed = await remove(conn)
                if removed:
                    await self._count(conn, store, removed)
                    await self._lease.fence(conn)
            if not removed or not repeats:
                return
            await self._lease.advance()

    async def _count(self, conn: Connection, store: str, count: int) -> None:
        if count:
            await deletion_receipts.add_removed(conn, self._workspace_id, self._deletion.id, store=store, count=count)
