"""Builds: a document's chunks are not visible while they are written, and become visible in one transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ragsvc.db import canonical_text, chunks, documents, files, jobs
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.errors.work import LeaseLost, SubjectGone
from ragsvc.jobs.announcements import announce
from ragsvc.tasks import open_task_group

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from ragsvc.domain.chunks import Chunk
    from ragsvc.domain.documents import Document, DocumentWarning, File
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

# Rows per transaction; with the HNSW index, this many take about half a second.
WRITE_BATCH = 256
# Concurrent batches of one document. Updating the vector index is CPU-bound: each writer keeps one core busy.
WRITERS = 2


class Build:
    """One attempt to ingest a document. Its id is the token of the lease under which it is written.

    Every write checks the lease's fence: once another worker has the job, this build can write nothing more. The fence
    locks the job's row, so it comes last in its transaction: if this worker's machine vanishes while it sends rows, no
    lock keeps the job from being rescued.
    """

    def __init__(self, resources: Resources, lease: Lease, document: Document) -> None:
        if lease.job.lease_token is None:
            raise LeaseLost
        self.id: UUID = lease.job.lease_token
        self._resources = resources
        self._lease = lease
        self._document = document

    async def write_text(self, text: str) -> None:
        """Store the canonical text. Call this before `write_chunks`: the sweeper finds stale builds by their text."""
        document = self._document
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await canonical_text.insert_text(conn, document.workspace_id, document.id, build_id=self.id, content=text)
            await self._lease.fence(conn)

    async def write_chunks(self, batch: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        """Store chunks, not yet visible, with their vectors of shape (len(batch), dimensions)."""
        writers = asyncio.Semaphore(WRITERS)

        async def write(start: int) -> None:
            rows = slice(start, start + WRITE_BATCH)
            async with writers:
                await self._write_batch(batch[rows], vectors[rows])

        async with open_task_group() as group:
            for start in range(0, len(batch), WRITE_BATCH):
                group.create_task(write(start))

    async def _write_batch(self, batch: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        document = self._document
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await chunks.insert_chunks(
                conn,
                document.workspace_id,
                document.id,
                collection_id=document.collection_id,
                build_id=self.id,
                chunks=batch,
                vectors=vectors,
                space=self._resources.space,
                text_search_config=self._resources.settings.answering.text_search_config,
            )
            await self._lease.fence(conn)

    async def finalize(
        self, file: File, *, chunk_count: int, token_count: int, warnings: Sequence[DocumentWarning] = ()
    ) -> int:
        """Make this the active build of the document, finish the job, and return the new version.

        The sweeper removes the chunks and the file of the previous version.

        Raises:
            LeaseLost: another worker has the job.
            SubjectGone: the document is deleted or being deleted.
        """
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await documents.lock_document(conn, self._document.workspace_id, self._document.id)
            await self._lease.fence(conn)
            document = await documents.select_document(conn, self._document.workspace_id, self._document.id)
            if document is None:
                raise SubjectGone("the document is gone")
            version = await documents.update_active_build(
                conn,
                document.workspace_id,
                document.id,
                build_id=self.id,
                file_id=file.id,
                chunk_count=chunk_count,
                token_count=token_count,
                space_id=self._resources.space.id,
                warnings=warnings,
            )
            if version is None:
                raise SubjectGone("the document is being deleted")
            await canonical_text.update_text_version(
                conn,
                document.workspace_id,
                document.id,
                build_id=self.id,
                version=version,
                superseded=document.active_build,
                retention_days=self._resources.settings.llm.superseded_text_days,
            )
            if document.file_id != file.id:
                await files.release_file(conn, document.workspace_id, document.file_id, document_id=document.id)
            await announce(
                conn,
                WebhookEvent.DOCUMENT_READY,
                workspace_id=document.workspace_id,
                document_id=document.id,
                version=version,
            )
            await jobs.finish_job(conn, self._lease.job)
        return version
