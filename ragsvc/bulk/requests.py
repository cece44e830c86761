"""Accepts bulk operations; once committed, a job executes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import bulk_operations, collections, workspaces
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.db.search.scope import Selection
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.bulk import BulkAction, BulkSelection
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import BulkPayload, Queue, SubjectKind
from ragsvc.errors.requests import NotFound
from ragsvc.jobs import lifecycle
from ragsvc.retrieval.filter_cost import check_filter_cost
from ragsvc.retrieval.filters import compile_filter, dump_filter

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.db.search.scope import AttributeCondition
    from ragsvc.domain.bulk import BulkOperation
    from ragsvc.domain.documents import DocumentStatus
    from ragsvc.resources import Resources
    from ragsvc.retrieval.filters import Filter

log = structlog.get_logger(__name__)


async def count_selected(
    resources: Resources,
    workspace_id: UUID,
    *,
    collection_id: UUID | None = None,
    status: DocumentStatus | None = None,
    filters: Filter | None = None,
) -> int:
    """Return how many documents an operation would affect; raises like `request_bulk_operation`."""
    attributes = compile_filter(filters)
    selection = BulkSelection(collection_id, status)
    async with resources.pool.acquire() as conn:
        await _check_collection(conn, workspace_id, selection)
        await _check_cost(conn, workspace_id, selection, attributes)
        return await bulk_operations.count_matching(conn, workspace_id, selection, attributes)


async def request_bulk_operation(
    resources: Resources,
    workspace_id: UUID,
    action: BulkAction,
    *,
    operation_id: UUID,
    collection_id: UUID | None = None,
    status: DocumentStatus | None = None,
    filters: Filter | None = None,
    purge_file: bool = True,
) -> BulkOperation:
    """Queue an operation on all documents that match; a condition that is None matches every document.

    Raises:
        NotFound: there is no such collection.
        InvalidRequest: the filter is too large or invalid.
    """
    attributes = compile_filter(filters)
    selection = BulkSelection(collection_id, status, dump_filter(filters) if filters else None)
    async with resources.pool.acquire() as conn, conn.transaction():
        # Wait for the documents that are being added, and make later ones wait, so that each was there or was not.
        await workspaces.pin_workspace(conn, workspace_id, exclusively=True)
        await _check_collection(conn, workspace_id, selection)
        await _check_cost(conn, workspace_id, selection, attributes)
        operation = await bulk_operations.insert_bulk_operation(
            conn,
            workspace_id,
            operation_id,
            action=action,
            selection=selection,
            purge_file=purge_file,
            matched=await bulk_operations.count_matching(conn, workspace_id, selection, attributes),
        )
        job = await lifecycle.enqueue(
            conn,
            resources.settings,
            workspace_id=workspace_id,
            # The deletion queue's workers have spare capacity; ingestion is the heavy work.
            queue=Queue.DELETION,
            subject_kind=SubjectKind.BULK,
            subject_id=operation.id,
            payload=BulkPayload(),
        )
        if action is BulkAction.DELETE:
            await _record_audit_event(conn, operation)
    await resources.notifier.notify(job)
    log.info("bulk_operation_requested", bulk_id=operation.id, action=action, matched=operation.matched)
    return operation


async def _check_collection(conn: Connection, workspace_id: UUID, selection: BulkSelection) -> None:
    collection_id = selection.collection_id
    if collection_id is not None and await collections.select_collection(conn, workspace_id, collection_id) is None:
        raise NotFound


async def _record_audit_event(conn: Connection, operation: BulkOperation) -> None:
    """Record who requested the deletions, because each one will be recorded with the service itself as its actor."""
    await insert_audit_event(
        conn,
        AuditAction.DOCUMENTS_DELETED,
        workspace_id=operation.workspace_id,
        subject=(AuditSubject.BULK, operation.id),
        details={"bulk_id": format_id("bulk", operation.id), "matched": operation.matched},
    )


async def _check_cost(
    conn: Connection, workspace_id: UUID, selection: BulkSelection, attributes: AttributeCondition
) -> None:
    collection_ids = (selection.collection_id,) if selection.collection_id else None
    await check_filter_cost(conn, workspace_id, Selection(collection_ids, attributes))
