"""Executes deletions: removes data in bounded batches, verifies the removal, and only then writes the receipt.

Each step counts its removals in its own transaction and is safe to repeat, so a killed deletion can be resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import collections, deletion_receipts, documents, embedding_cache, idempotency_keys, jobs, workspaces
from ragsvc.deletion.documents import DocumentRemover
from ragsvc.deletion.receipts import verify_stores
from ragsvc.domain.jobs import DeletePayload, SubjectKind, format_subject_id
from ragsvc.errors import SubjectGone

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.deletions import Deletion
    from ragsvc.domain.workspaces import Location
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

PAGE = 200
CACHE_BATCH = 5000

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
            await _remove_documents(resources, lease, remover, deletion, collection_id=None)
            await _empty_cache(resources, deletion)
            if location is not None:
                await _empty_location(resources, deletion, location)
    stores = await verify_stores(resources, deletion, location=location)
    async with resources.pool.acquire() as conn, conn.transaction():
        await lease.fence(conn)
        await _remove_subject(conn, deletion)
        await deletion_receipts.complete_deletion(conn, deletion.workspace_id, deletion.id, stores=stores)
        await jobs.finish_job(conn, job)
    log.info("deletion_completed", subject_id=format_subject_id(deletion.subject_kind, deletion.subject_id))


async def _remove_documents(
    resources: Resources, lease: Lease, remover: DocumentRemover, deletion: Deletion, *, collection_id: UUID | None
) -> None:
    async with resources.pool.acquire() as conn:
        count = await documents.count_documents_of(conn, deletion.workspace_id, collection_id=collection_id)
    done = 0
    while True:
        async with resources.pool.acquire() as conn:
            ids = await documents.select_document_ids(
                conn, deletion.workspace_id, collection_id=collection_id, limit=PAGE
            )
        if not ids:
            break
        await remover.remove(ids)
        done += len(ids)
        await lease.advance(min(done / max(count, 1), 1.0))
    await remover.remove_leftovers(collection_id=collection_id)


async def _empty_location(resources: Resources, deletion: Deletion, location: Location) -> None:
    """Remove the remaining objects of a workspace; they are counted first, so that a killed deletion can be retried."""
    storage = resources.storage
    found = await storage.count_all_objects(location.bucket, prefix=location.key_prefix)
    async with resources.pool.acquire() as conn:
        await deletion_receipts.add_found(conn, deletion.workspace_id, deletion.id, store="objects", count=found)
    await storage.delete_all_objects(location.bucket, prefix=location.key_prefix)
    if not location.is_shared:
        await storage.delete_bucket(location.bucket)


async def _empty_cache(resources: Resources, deletion: Deletion) -> None:
    """Remove the workspace's own entries from the embedding cache."""
    dropped = CACHE_BATCH
    while dropped == CACHE_BATCH:
        async with resources.pool.acquire() as conn, conn.transaction():
            dropped = await embedding_cache.delete_scope(conn, scope=deletion.workspace_id, limit=CACHE_BATCH)
            await deletion_receipts.add_removed(
                conn, deletion.workspace_id, deletion.id, store="embedding_cache", count=dropped
            )


async def _remove_subject(conn: Connection, deletion: Deletion) -> None:
    match deletion.subject_kind:
        case SubjectKind.DOCUMENT:
            return
        case SubjectKind.COLLECTION:
            await collections.delete_collection(conn, deletion.workspace_id, deletion.subject_id)
        case SubjectKind.WORKSPACE:
            await idempotency_keys.delete_calls(conn, deletion.workspace_id)
            await workspaces.delete_workspace(conn, deletion.workspace_id)
