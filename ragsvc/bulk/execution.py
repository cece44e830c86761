"""Executes a bulk operation: queues each document's job and counts the document, in one transaction per document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import bulk_operations, jobs
from ragsvc.deletion.requests import hide_document
from ragsvc.domain.bulk import BulkAction
from ragsvc.errors.requests import RequestError
from ragsvc.ingestion.reingestion import queue_reingestion
from ragsvc.retrieval.filters import compile_filter, load_filter

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.bulk import BulkOperation
    from ragsvc.domain.jobs import Job
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

PAGE_SIZE = 500

log = structlog.get_logger(__name__)


async def execute_bulk_operation(resources: Resources, lease: Lease) -> None:
    """Process the documents from where the last attempt stopped, and finish the job.

    Raises:
        LeaseLost: another worker has the job.
    """
    job = lease.job
    async with resources.pool.acquire() as conn:
        operation = await bulk_operations.select_bulk_operation(conn, job.workspace_id, job.subject_id)
    if operation is None:
        # The operation was deleted with its workspace, whose documents are deleted anyway.
        await _finish(resources, lease, None)
        return
    stored = operation.selection.filters
    attributes = compile_filter(load_filter(stored) if stored else None)
    after = operation.after_id
    while True:
        async with resources.pool.acquire() as conn:
            page = await bulk_operations.select_matching(conn, operation, attributes, after=after, limit=PAGE_SIZE)
        if not page:
            break
        for document_id in page:
            await _process(resources, lease, operation, document_id)
        after = page[-1]
    await _finish(resources, lease, operation)
    log.info("bulk_operation_completed", action=operation.action)


async def _finish(resources: Resources, lease: Lease, operation: BulkOperation | None) -> None:
    async with resources.pool.acquire() as conn, conn.transaction():
        await lease.fence(conn)
        if operation is not None:
            await bulk_operations.complete_bulk_operation(conn, operation)
        await jobs.finish_job(conn, lease.job)


async def _process(resources: Resources, lease: Lease, operation: BulkOperation, document_id: UUID) -> None:
    async with resources.pool.acquire() as conn, conn.transaction():
        # Lock the document before the job, as everywhere else. If the document is refused, nothing was written yet.
        queued = await _queue(conn, resources, operation, document_id)
        await lease.fence(conn)
        await bulk_operations.advance_bulk_operation(
            conn, operation, document_id=document_id, is_accepted=queued is not None
        )
    if queued is not None:
        await resources.notifier.notify(queued)


async def _queue(conn: Connection, resources: Resources, operation: BulkOperation, document_id: UUID) -> Job | None:
    """Queue the document's own job; None if the document has been deleted or is busy."""
    try:
        match operation.action:
            case BulkAction.DELETE:
                _deletion, job = await hide_document(
                    conn, resources, operation.workspace_id, document_id, purge_file=operation.purge_file
                )
            case BulkAction.REINGEST:
                _document, job = await queue_reingestion(
                    conn, resources, operation.workspace_id, document_id, chunking=None
                )
    except RequestError:
        return None
    return job
