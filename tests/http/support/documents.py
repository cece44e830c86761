"""Documents for the API's tests: upload forms, and the rows that a worker would write."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import aiohttp
import numpy as np

from ragsvc.db import canonical_text, chunks, documents, jobs
from ragsvc.domain.chunks import Chunk, PageSpan
from ragsvc.domain.documents import DocumentStatus, FailureInfo, Stage
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import Queue, SubjectKind

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.resources import Resources

TEXT = "Kettles boil water.\n\nDescale them every three months. Ünïcode 😀 counts once."
CUTS = ((0, 19), (21, len(TEXT)))


def form(content: bytes, *, filename: str = "kettles.txt", **fields: str) -> aiohttp.FormData:
    """Return a form with a file, followed by the other fields."""
    data = aiohttp.FormData()
    data.add_field("file", io.BytesIO(content), filename=filename)
    for name, value in fields.items():
        data.add_field(name, value)
    return data


def sample_chunks() -> list[Chunk]:
    """Return the chunks of TEXT."""
    return [
        Chunk(
            ordinal=ordinal,
            text=TEXT[start:end],
            content_hash=hashlib.sha256(TEXT[start:end].encode()).digest(),
            embedding_input_hash=hashlib.sha256(TEXT[start:end].encode()).digest(),
            char_start=start,
            char_end=end,
            page_spans=(PageSpan(ordinal + 1, start, end),),
            heading_path=("Kettles",),
            token_count=7,
        )
        for ordinal, (start, end) in enumerate(CUTS)
    ]


async def finish_document(
    resources: Resources, workspace_id: UUID, document_id: UUID, *, file_id: UUID | None = None
) -> None:
    """Give a document a ready build of TEXT, as if made from its file or another one, and cancel its active job."""
    build_id = new_id()
    created = sample_chunks()
    vectors = np.random.default_rng(7).standard_normal((len(created), resources.space.dimensions), dtype=np.float32)
    async with resources.pool.acquire() as conn, conn.transaction():
        document = await documents.select_document(conn, workspace_id, document_id)
        assert document is not None
        await canonical_text.insert_text(conn, workspace_id, document_id, build_id=build_id, content=TEXT)
        await chunks.insert_chunks(
            conn,
            workspace_id,
            document_id,
            collection_id=document.collection_id,
            build_id=build_id,
            chunks=created,
            vectors=vectors,
            space=resources.space,
            text_search_config="english",
        )
        version = await documents.update_active_build(
            conn,
            workspace_id,
            document_id,
            build_id=build_id,
            file_id=file_id or document.file_id,
            chunk_count=len(created),
            token_count=14,
            space_id=resources.space.id,
        )
        assert version is not None
        await jobs.cancel_active_jobs(
            conn,
            workspace_id,
            queue=Queue.INGESTION,
            subject_kind=SubjectKind.DOCUMENT,
            subject_id=document_id,
        )
        await canonical_text.update_text_version(conn, workspace_id, document_id, build_id=build_id, version=version)


async def show_stage(resources: Resources, workspace_id: UUID, document_id: UUID, stage: Stage) -> None:
    """Set a document's status to processing, with a stage."""
    async with resources.pool.acquire() as conn:
        await documents.update_ingestion_state(
            conn, workspace_id, document_id, status=DocumentStatus.PROCESSING, stage=stage, progress=0.25
        )


async def show_failure(resources: Resources, workspace_id: UUID, document_id: UUID) -> None:
    """Set a document's status to failed, with a permanent error."""
    failure = FailureInfo(code="encrypted", message="the file needs a password", retryable=False)
    async with resources.pool.acquire() as conn:
        await documents.update_ingestion_state(
            conn, workspace_id, document_id, status=DocumentStatus.FAILED, error=failure
        )
