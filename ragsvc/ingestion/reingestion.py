"""Requests to ingest a document again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import collections, documents, files, jobs, workspaces
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.jobs import Queue, SubjectKind
from ragsvc.errors.requests import DocumentDeleting, IngestionActive, NoReplacement, NotFound
from ragsvc.jobs import lifecycle, subjects

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.collections import Chunking
    from ragsvc.domain.documents import Document
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources

log = structlog.get_logger(__name__)


async def request_reingestion(
    resources: Resources,
    workspace_id: UUID,
    document_id: UUID,
    *,
    chunking: Chunking | None,
    discard_replacement: bool = False,
    job_id: UUID | None = None,
) -> Document:
    """Queue a new version of the document from its newest file; the current one is served until the new one is ready.

    Without `chunking`, the collection's chunking at the time of ingestion applies. With `discard_replacement`, a
    replacement file whose ingestion failed is released and the version is built from the current file. An ingestion
    that waits for its next attempt is replaced.

    Raises:
        NotFound: the document does not exist.
        DocumentDeleting: the document is being deleted.
        IngestionActive: an ingestion of the document is due or running.
        NoReplacement: there is no replacement file to discard.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        document, job = await queue_reingestion(
            conn,
            resources,
            workspace_id,
            document_id,
            chunking=chunking,
            discard_replacement=discard_replacement,
            job_id=job_id,
        )
    await resources.notifier.notify(job)
    log.info("reingestion_requested", document_id=document_id)
    return document


async def queue_reingestion(
    conn: Connection,
    resources: Resources,
    workspace_id: UUID,
    document_id: UUID,
    *,
    chunking: Chunking | None,
    discard_replacement: bool = False,
    job_id: UUID | None = None,
) -> tuple[Document, Job]:
    """Queue a new version like `request_reingestion`, in the caller's transaction, and also return the job.

    The caller must notify workers after its commit.

    Raises:
        NotFound, DocumentDeleting, IngestionActive, NoReplacement: as `request_reingestion` does.
    """
    await workspaces.pin_workspace(conn, workspace_id)
    await documents.lock_document(conn, workspace_id, document_id)
    document = await documents.select_document(conn, workspace_id, document_id)
    if document is None:
        raise NotFound
    if document.status is DocumentStatus.DELETING or not await collections.pin_collection(
        conn, workspace_id, document.collection_id
    ):
        raise DocumentDeleting
    if discard_replacement and document.pending_file_id is None:
        raise NoReplacement
    active = await jobs.select_active_job(
        conn, workspace_id, queue=Queue.INGESTION, subject_kind=SubjectKind.DOCUMENT, subject_id=document_id
    )
    if active is not None and not await jobs.cancel_delayed_job(conn, active):
        raise IngestionActive
    replacement = document.pending_file_id
    if replacement is not None and discard_replacement:
        await documents.clear_next_file(conn, workspace_id, document_id)
        await files.release_file(conn, workspace_id, replacement, document_id=document_id)
        replacement = None
    job = await lifecycle.enqueue_ingestion(
        conn,
        resources.settings,
        workspace_id=workspace_id,
        document_id=document_id,
        file_id=replacement or document.file_id,
        chunking=chunking,
        job_id=job_id,
    )
    await subjects.show_queued(conn, job)
    queued = await documents.select_document(conn, workspace_id, document_id)
    return queued or document, job
