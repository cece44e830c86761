"""Updates of a job's subject to reflect the job's state, in the transaction that changes the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import bulk_operations, deletion_receipts, documents
from ragsvc.domain.bulk import BulkStatus
from ragsvc.domain.deletions import DeletionStatus
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.jobs import DeletePayload, JobKind, SubjectKind
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.jobs.announcements import announce

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.documents import FailureInfo
    from ragsvc.domain.jobs import Job

DOCUMENT_STATUS = {
    DeletionStatus.PENDING: DocumentStatus.QUEUED,
    DeletionStatus.RUNNING: DocumentStatus.PROCESSING,
    DeletionStatus.FAILED: DocumentStatus.FAILED,
}


async def lock_subject(conn: Connection, job: Job) -> None:
    """Lock the row of the job's document; documents are always locked before their jobs to avoid deadlocks."""
    if job.subject_kind is SubjectKind.DOCUMENT:
        await documents.lock_document(conn, job.workspace_id, job.subject_id)


async def show_queued(conn: Connection, job: Job, *, error: FailureInfo | None = None) -> None:
    """Mark the subject as queued; `error` is that of the failed attempt, if there was one."""
    await _show(conn, job, DeletionStatus.PENDING, error)


async def show_running(conn: Connection, job: Job) -> None:
    """Mark the subject as being processed."""
    await _show(conn, job, DeletionStatus.RUNNING, None)


async def show_dead(conn: Connection, job: Job, *, error: FailureInfo) -> None:
    """Mark the subject as failed, and announce the failure of a document."""
    await _show(conn, job, DeletionStatus.FAILED, error)
    if job.kind is JobKind.INGEST:
        await announce(
            conn,
            WebhookEvent.DOCUMENT_FAILED,
            workspace_id=job.workspace_id,
            document_id=job.subject_id,
            error={"code": error.code, "retryable": error.retryable},
        )


async def _show(conn: Connection, job: Job, status: DeletionStatus, error: FailureInfo | None) -> None:
    match job.kind:
        case JobKind.INGEST:
            await documents.update_ingestion_state(
                conn, job.workspace_id, job.subject_id, status=DOCUMENT_STATUS[status], error=error
            )
        case JobKind.DELETE:
            deletion_id = DeletePayload.from_json(job.payload).deletion_id
            await deletion_receipts.update_deletion_state(
                conn, job.workspace_id, deletion_id, status=status, error=error
            )
        case JobKind.BULK:
            await bulk_operations.update_bulk_state(
                conn, job.workspace_id, job.subject_id, status=BulkStatus(status), error=error
            )
        case JobKind.DELIVER:
            # A delivery has no subject other than its job.
            return
