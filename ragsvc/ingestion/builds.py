"""Builds: a document's chunks are written unseen and appear all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import canonical_text, chunks, documents, jobs
from ragsvc.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from ragsvc.jobs.lease import Lease
    from ragsvc.models.chunks import Chunk
    from ragsvc.models.documents import Document, File
    from ragsvc.resources import Resources

# A transaction of so many rows takes about half a second with its HNSW index.
WRITE_BATCH = 256
DELETE_BATCH = 1000


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

    async def clear_others(self) -> None:
        """Remove what earlier tries left; the active build stays until this one takes its place."""
        document = self._document
        while await self._clear_batch():
            pass
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await self._lease.fence(conn)
            await canonical_text.delete_other_texts(conn, document.workspace_id, document.id, build_id=self.id)

    async def write_text(self, text: str) -> None:
        """Store the canonical text."""
        document = self._document
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await self._lease.fence(conn)
            await canonical_text.insert_text(conn, document.workspace_id, document.id, build_id=self.id, content=text)

    async def write_chunks(self, batch: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        """Store chunks with their vectors, shape (len(batch), dimensions), unseen."""
        document = self._document
        for start in range(0, len(batch), WRITE_BATCH):
            async with self._resources.pool.acquire() as conn, conn.transaction():
                await self._lease.fence(conn)
                await chunks.insert_chunks(
                    conn,
                    document.workspace_id,
                    document.id,
                    collection_id=document.collection_id,
                    build_id=self.id,
                    chunks=batch[start : start + WRITE_BATCH],
                    vectors=vectors[start : start + WRITE_BATCH],
                    space=self._resources.space,
                    text_search_config=self._resources.settings.text_search_config,
                )

    async def finalize(self, file: File, *, chunk_count: int, token_count: int) -> int:
        """Make this build the document's, end the job, and return the new version.

        Raises:
            LeaseLost: another worker has the job, or the document is being deleted.
        """
        document = self._document
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await documents.lock_document(conn, document.workspace_id, document.id)
            await self._lease.fence(conn)
            version = await documents.update_active_build(
                conn,
                document.workspace_id,
                document.id,
                build_id=self.id,
                file_id=file.id,
                chunk_count=chunk_count,
                token_count=token_count,
            )
            if version is None:
                raise LeaseLost("the document is being deleted")
            await canonical_text.update_text_version(
                conn, document.workspace_id, document.id, build_id=self.id, version=version
            )
            await jobs.finish_job(conn, self._lease.job)
        return version

    async def _clear_batch(self) -> int:
        document, space = self._document, self._resources.space
        async with self._resources.pool.acquire() as conn, conn.transaction():
            await self._lease.fence(conn)
            vectors = await chunks.delete_chunk_vectors(
                conn,
                document.workspace_id,
                document.id,
                space=space,
                keep_build=document.active_build,
                limit=DELETE_BATCH,
            )
            texts = await chunks.delete_chunk_texts(
                conn, document.workspace_id, document.id, keep_build=document.active_build, limit=DELETE_BATCH
            )
        return vectors + texts
