"""Executes deletions: removes data in bounded batches, verifies the removal, and only then writes the receipt.

Each step counts its removals in its own transaction and is safe to repeat, so a killed deletion can be resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import collections, deletion_receipts, documents, jobs, workspaces
from ragsvc.deletion.documents import DocumentRemover
from ragsvc.deletion.receipts import verify_stores
from ragsvc.deletion.workspaces import WorkspaceRemover
from ragsvc.domain.jobs import DeletePayload, SubjectKind, format_subject_id
from ragsvc.errors.work import SubjectGone

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.deletions import Deletion
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

PAGE = 500

log = structlog.get_logger(__name__)


async def delete(resources: Resources, lease: Lease) -> None:
    """Remove the job's subject and complete the job and its receipt.

    Raises:
        LeaseLost: another worker has the job.
        TransientFailure: the verification found remaining data, or a store failed.
    """
    job = lease.job
    async with resources.pool.acquire() as conn:
        deletion = await deletion_receipts.select_deletion(
            conn, job.workspace_id, DeletePayload.from_json(job.payload).deletion_id
        )
        workspace = await workspaces.select_workspace(conn, job.workspace_id)
    if deletion is None:
        raise SubjectGone("the deletion has no receipt")
    location = workspace.location if workspace else None
    remover = DocumentRemover(resources, lease, deletion, bucket=location.bucket if location else None)
    match deletion.subject_kind:
        case SubjectKind.DOCUMENT:
            await remover.remove([deletion.subject_id])
        case SubjectKind.COLLECTION:
            await _remove_documents(resources, lease, remover, deletion, collection_id=deletion.subject_id)
        case SubjectKind.WORKSPACE:
            rest = WorkspaceRemover(resources, lease, deletion)
            await remover.end_runs()
            await _remove_documents(resources, lease, remover, deletion, collection_id=None)
            await rest.remove_rows()
            if location is not None:
                await rest.empty_location(location)
    stores = await verify_stores(resources, lease, deletion, location=location)
    async with resources.pool.acquire() as conn, conn.transaction():
        await _remove_subject(conn, deletion)
        await deletion_receipts.complete_deletion(conn, deletion.workspace_id, deletion.id, stores=stores)
        await lease.fence(conn)
        await jobs.finish_job(conn, job)
    log.info("deletion_completed", subject_id=format_subject_id(deletion.subject_kind, deletion.subject_id))


async def _remove_documents(
    resources: Resources, lease: Lease, remover: DocumentRemover, deletion: Deletion, *, collection_id: UUID | None
) -> None:
    async with resources.pool.acquire() as conn:
        left = await documents.count_documents_of(conn, deletion.workspace_id, collection_id=collection_id)
        removed = await deletion_receipts.select_removed(conn, deletion.workspace_id, deletion.id)
    # Earlier attempts have removed some.
    done = removed.get("documents", 0)
    count = done + left
    while True:
        async with resources.pool.acquire() as conn:
            ids = await documents.select_document_ids(
                conn, deletion.workspace_id, collection_id=collection_id, limit=PAGE
            )
        if not ids:
            break
        if collection_id is None:
            await remover.remove_with_workspace(ids)
        else:
            await remover.remove(ids)
        done += len(ids)
        await lease.advance(min(done / max(count, 1), 1.0))
    await remover.remove_leftovers(collection_id=collection_id)


async def _remove_subject(conn: Connection, deletion: Deletion) -> None:
    match deletion.subject_kind:
        case SubjectKind.DOCUMENT:
            return
        case SubjectKind.COLLECTION:
            await collections.delete_collection(conn, deletion.workspace_id, deletion.subject_id)
        case SubjectKind.WORKSPACE:
            await workspaces.delete_workspace(conn, deletion.workspace_id)
