"""Documents and their jobs, for tests below the HTTP layer: uploaded by the real use-case, and reloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import documents, jobs
from ragsvc.domain.jobs import Queue, SubjectKind
from ragsvc.uploads.documents import receive_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

SAMPLE = b"""# Kettles

A kettle boils water at 100 degrees Celsius at sea level.

## Descaling

Descale the kettle every three months with citric acid.
"""


async def stream(content: bytes, *, block_bytes: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Yield the content in blocks, like the body of a request."""
    for start in range(0, len(content), block_bytes):
        yield content[start : start + block_bytes]


async def accept(
    resources: Resources,
    workspace: Workspace,
    content: bytes = SAMPLE,
    *,
    filename: str = "kettles.md",
    mime_type: str = "text/markdown",
    collection_id: UUID | None = None,
) -> Document:
    """Upload a file and return its queued document."""
    return await receive_document(
        resources,
        workspace,
        stream(content),
        filename=filename,
        mime_type=mime_type,
        collection_id=collection_id,
        attributes={},
    )


async def job_of(resources: Resources, document: Document, queue: Queue = Queue.INGESTION) -> Job:
    """Return the active job of a document."""
    async with resources.pool.acquire() as conn:
        job = await jobs.select_active_job(
            conn,
            document.workspace_id,
            queue=queue,
            subject_kind=SubjectKind.DOCUMENT,
            subject_id=document.id,
        )
    assert job is not None
    return job


async def reload_job(resources: Resources, job: Job) -> Job:
    """Return the current row of the job."""
    async with resources.pool.acquire() as conn:
        found = await jobs.select_job(conn, job.id)
    assert found is not None
    return found


async def reload(resources: Resources, document: Document) -> Document:
    """Return the current row of the document."""
    async with resources.pool.acquire() as conn:
        found = await documents.select_document(conn, document.workspace_id, document.id)
    assert found is not None
    return found
