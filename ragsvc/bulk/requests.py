"""Takes a call about many documents: from the commit on a job does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import bulk_operations, collections
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.bulk import BulkAction
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import Queue, SubjectKind
from ragsvc.domain.payloads import BulkPayload
from ragsvc.errors import NotFound
from ragsvc.jobs import lifecycle
from ragsvc.retrieval.filters import compile_filter, load_filter

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.db.search.scope import AttributeCondition
    from ragsvc.domain.bulk import BulkOperation, BulkSelection
    from ragsvc.resources import Resources

log = structlog.get_logger(__name__)


def compile_selection(selection: BulkSelection) -> AttributeCondition:
    """Return the selection's filter for the database.

    Raises:
        InvalidRequest: it is too large or has no meaning.
    """
    return compile_filter(load_filter(selection.filters) if selection.filters else None)


async def count_selected(resources: Resources, workspace_id: UUID, selection: BulkSelection) -> int:
    """Return how many documents an operation would be about; raises like `request_bulk_operation`."""
    attributes = compile_selection(selection)
    async with resources.pool.acquire() as conn:
        await _check_collection(conn, workspace_id, selection)
        return await bulk_operations.count_matching(conn, workspace_id, selection, attributes)


async def request_bulk_operation(
    resources: Resources,
    workspace_id: UUID,
    action: BulkAction,
    *,
    operation_id: UUID,
    selection: BulkSelection,
    purge_file: bool = True,
) -> BulkOperation:
    """Queue an operation on the documents that fit now.

    Raises:
        NotFound: there is no such collection.
        InvalidRequest: the filter is too large or has no meaning.
    """
    attributes = compile_selection(selection)
    async with resources.pool.acquire() as conn, conn.transaction():
        await _check_collection(conn, workspace_id, selection)
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
            # Its workers have time: ingesting is the heavy work.
            queue=Queue.DELETION,
            subject_kind=SubjectKind.BULK,
            subject_id=operation.id,
            payload=BulkPayload(),
        )
        if action is BulkAction.DELETE:
            await _keep(conn, operation)
    await resources.notifier.notify(job)
    log.info("bulk_operation_requested", bulk_id=operation.id, action=action, matched=operation.matched)
    return operation


async def _check_collection(conn: Connection, workspace_id: UUID, selection: BulkSelection) -> None:
    wanted = selection.collection_id
    if wanted is not None and await collections.select_collection(conn, workspace_id, wanted) is None:
        raise NotFound


async def _keep(conn: Connection, operation: BulkOperation) -> None:
    """Keep who asked: the deletions that follow are the service's own acts, and name the operation."""
    await insert_audit_event(
        conn,
        AuditAction.DOCUMENTS_DELETED,
        workspace_id=operation.workspace_id,
        subject=(AuditSubject.BULK, operation.id),
        details={"bulk_id": format_id("bulk", operation.id), "matched": operation.matched},
    )
