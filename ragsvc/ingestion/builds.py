"""Builds: a document's chunks are written unseen and appear all at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ragsvc.db import canonical_text, chunks, documents, files, jobs
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.errors import LeaseLost
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

# A transaction of so many rows takes about half a second with its HNSW index.
WRITE_BATCH = 256
# The index of the vectors keeps a processor busy; a long document may keep two.
WRITERS = 2


class Build:
    """One try at a document. Its id is the token of the lease that it is written under.

    Every write passes the fence: once another worker has the job, nothing of this build is written any more.
    """

    def __init__(self, resources: Resources, lease: Lease, document: Document) -> None:
        if lease.job.lease_token is None:
            raise LeaseLost
        self.id: UUID = lease.job.lease_token
        self._resources = resources
        self._lease = lease
        self._document = document

    async def write_text(self, text: str) -> None:
        """Store the canonical text, before any chunk: by it the sweeper knows of the build, should it be left over."""
        document = self._document
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await self._lease.fence(conn)
            await canonical_text.insert_text(conn, document.workspace_id, document.id, build_id=self.id, content=text)

    async def write_chunks(self, batch: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        """Store chunks with their vectors, shape (len(batch), dimensions), unseen and in any order."""
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
            await self._lease.fence(conn)
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

    async def finalize(
        self, file: File, *, chunk_count: int, token_count: int, warnings: Sequence[DocumentWarning] = ()
    ) -> int:
        """Make this build the document's, end the job, and return the new version.

        What it takes the place of, the chunks and the file, is left to the sweeper.

        Raises:
            LeaseLost: another worker has the job, or the document is being deleted.
        """
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await documents.lock_document(conn, self._document.workspace_id, self._document.id)
            await self._lease.fence(conn)
            document = await documents.select_document(conn, self._document.workspace_id, self._document.id)
            if document is None:
                raise LeaseLost("the document is gone")
            version = await documents.update_active_build(
                conn,
                document.workspace_id,
                document.id,
                build_id=self.id,
                file_id=file.id,
                chunk_count=chunk_count,
                token_count=token_count,
                warnings=warnings,
            )
            if version is None:
                raise LeaseLost("the document is being deleted")
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
                await files.release_file(conn, document.workspace_id, document.file_id)
            await announce(
                conn,
                WebhookEvent.DOCUMENT_READY,
                workspace_id=document.workspace_id,
                document_id=document.id,
                version=version,
            )
            await jobs.finish_job(conn, self._lease.job)
        return version
