"""Accepts deletions: the subject is hidden as soon as the transaction commits, and a job removes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import collections, deletion_receipts, documents, jobs, workspaces
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.deletions import DeletionStatus
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import DeletePayload, Queue, SubjectKind, format_subject_id
from ragsvc.errors.requests import NotFound
from ragsvc.jobs import lifecycle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.jobs import Job
    from ragsvc.resources import Resources

_AUDITED = {
    SubjectKind.DOCUMENT: (AuditAction.DOCUMENT_DELETED, AuditSubject.DOCUMENT),
    SubjectKind.COLLECTION: (AuditAction.COLLECTION_DELETED, AuditSubject.COLLECTION),
    SubjectKind.WORKSPACE: (AuditAction.WORKSPACE_DELETED, AuditSubject.WORKSPACE),
}

log = structlog.get_logger(__name__)


async def request_document_deletion(
    resources: Resources, workspace_id: UUID, document_id: UUID, *, purge_file: bool
) -> Deletion:
    """Hide the document and queue its deletion; repeated requests return the same deletion, even once it is completed.

    A repeated request starts a failed deletion again.

    Raises:
        NotFound: the document never existed.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        deletion, job = await hide_document(conn, resources, workspace_id, document_id, purge_file=purge_file)
    if job is not None:
        await _notify(resources, job)
    return deletion


async def hide_document(
    conn: Connection, resources: Resources, workspace_id: UUID, document_id: UUID, *, purge_file: bool
) -> tuple[Deletion, Job | None]:
    """Hide a document in the caller's transaction; return the deletion, and its job if it is new or started again.

    Once the transaction is committed, the caller must notify the workers of the job.

    Raises:
        NotFound: the document never existed.
    """
    locked = await documents.lock_document(conn, workspace_id, document_id)
    if locked is None:
        return await _resume(
            conn, resources, await _find_completed(conn, workspace_id, SubjectKind.DOCUMENT, document_id)
        )
    status, deletion_id = locked
    if status is DocumentStatus.DELETING:
        return await _resume(conn, resources, await _find_active(conn, workspace_id, deletion_id))
    deletion, job = await _open(conn, resources, workspace_id, SubjectKind.DOCUMENT, document_id, purge_file=purge_file)
    await documents.update_deleting(conn, workspace_id, document_id, deletion_id=deletion.id)
    await jobs.cancel_active_jobs(
        conn,
        workspace_id,
        queue=Queue.INGESTION,
        subject_kind=SubjectKind.DOCUMENT,
        subject_id=document_id,
    )
    return deletion, job


async def request_collection_deletion(resources: Resources, workspace_id: UUID, collection_id: UUID) -> Deletion:
    """Hide the collection with all its documents and queue their deletion; repeated requests return the same deletion.

    The mark on the collection hides its documents at once, however many there are; the job marks each of them.

    Raises:
        NotFound: the collection never existed.
    """
    return await _request(
        resources,
        workspace_id,
        SubjectKind.COLLECTION,
        collection_id,
        lock=lambda conn: collections.lock_collection(conn, workspace_id, collection_id),
        mark=lambda conn, deletion_id: collections.update_collection_deleting(
            conn, workspace_id, collection_id, deletion_id=deletion_id
        ),
    )


async def request_workspace_deletion(resources: Resources, workspace_id: UUID) -> Deletion:
    """Close the workspace including its keys, and queue the deletion of all its data.

    The mark on the workspace hides its documents at once. Transactions that are adding data to it are waited for; later
    ones are refused. Repeated requests return the same deletion.

    Raises:
        NotFound: the workspace never existed.
    """
    return await _request(
        resources,
        workspace_id,
        SubjectKind.WORKSPACE,
        workspace_id,
        lock=lambda conn: workspaces.close_workspace(conn, workspace_id),
        mark=lambda conn, deletion_id: workspaces.update_workspace_deleting(
            conn, workspace_id, deletion_id=deletion_id
        ),
    )


async def _request(
    resources: Resources,
    workspace_id: UUID,
    kind: SubjectKind,
    subject_id: UUID,
    *,
    lock: Callable[[Connection], Awaitable[tuple[UUID | None] | None]],
    mark: Callable[[Connection, UUID], Awaitable[None]],
) -> Deletion:
    """Mark a subject and queue its deletion, or return the deletion that it already has; a failed one starts again."""
    async with resources.pool.acquire() as conn, conn.transaction():
        locked = await lock(conn)
        if locked is None:
            completed = await _find_completed(conn, workspace_id, kind, subject_id)
            deletion, job = await _resume(conn, resources, completed)
        elif locked[0] is not None:
            deletion, job = await _resume(conn, resources, await _find_active(conn, workspace_id, locked[0]))
        else:
            deletion, job = await _open(conn, resources, workspace_id, kind, subject_id)
            await mark(conn, deletion.id)
    if job is not None:
        await _notify(resources, job)
    return deletion


async def _resume(conn: Connection, resources: Resources, found: Deletion) -> tuple[Deletion, Job | None]:
    """Queue a deletion again if it failed; the lock prevents concurrent requests from doing so twice."""
    deletion = await deletion_receipts.lock_deletion(conn, found.workspace_id, found.id)
    if deletion is None or deletion.status is not DeletionStatus.FAILED:
        return deletion or found, None
    job = await _enqueue(conn, resources, deletion)
    await deletion_receipts.update_deletion_state(
        conn, deletion.workspace_id, deletion.id, status=DeletionStatus.PENDING
    )
    return replace(deletion, status=DeletionStatus.PENDING, error=None), job


async def _enqueue(conn: Connection, resources: Resources, deletion: Deletion) -> Job:
    return await lifecycle.enqueue(
        conn,
        resources.settings,
        workspace_id=deletion.workspace_id,
        queue=Queue.DELETION,
        subject_kind=deletion.subject_kind,
        subject_id=deletion.subject_id,
        payload=DeletePayload(deletion.id),
    )


async def _open(
    conn: Connection,
    resources: Resources,
    workspace_id: UUID,
    kind: SubjectKind,
    subject_id: UUID,
    *,
    purge_file: bool = True,
) -> tuple[Deletion, Job]:
    deletion = await deletion_receipts.insert_deletion(
        conn, workspace_id, new_id(), subject_kind=kind, subject_id=subject_id, purge_file=purge_file
    )
    job = await _enqueue(conn, resources, deletion)
    action, subject = _AUDITED[kind]
    details: dict[str, object] = {"deletion_id": f"del_{deletion.id.hex}", "purge_file": purge_file}
    await insert_audit_event(conn, action, workspace_id=workspace_id, subject=(subject, subject_id), details=details)
    return deletion, job


async def _find_active(conn: Connection, workspace_id: UUID, deletion_id: UUID | None) -> Deletion:
    """Return the deletion to which a subject's row refers: that of the subject, its collection or its workspace."""
    found = await deletion_receipts.select_deletion(conn, workspace_id, deletion_id) if deletion_id else None
    if found is None:
        raise NotFound
    return found


async def _find_completed(conn: Connection, workspace_id: UUID, kind: SubjectKind, subject_id: UUID) -> Deletion:
    """Return the deletion of a subject whose row is gone, so that a repeated request still gets the receipt."""
    found = await deletion_receipts.select_deletion_of(conn, workspace_id, subject_kind=kind, subject_id=subject_id)
    if found is None:
        raise NotFound
    return found


async def _notify(resources: Resources, job: Job) -> None:
    await resources.notifier.notify(job)
    log.info("deletion_requested", subject_id=format_subject_id(job.subject_kind, job.subject_id))
