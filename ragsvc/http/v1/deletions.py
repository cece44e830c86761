"""Deletions and their receipts: /v1/deletions."""

from __future__ import annotations

from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.db import deletion_receipts
from ragsvc.domain.deletions import Deletion, DeletionStatus
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import NotFound
from ragsvc.http.auth import Access, caller_of, is_admin
from ragsvc.http.contract.bodies import read_query
from ragsvc.http.contract.ids import ShownDeletionId, ShownTime, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import (
    FailureView,
    SubjectView,
    json_response,
    render_failure,
    render_optional_time,
    render_subject,
    render_time,
)
from ragsvc.http.state import resources_of

routes = web.RouteTableDef()


class StoreReceiptView(TypedDict):
    """What a deletion did in one store; `remaining` was counted afterwards."""

    store: str
    removed: int
    redacted: int
    remaining: int
    retained_until: ShownTime | None
    counted: bool


class DeletionView(TypedDict):
    """A deletion and, once it is completed, its receipt."""

    id: ShownDeletionId
    subject: SubjectView
    status: DeletionStatus
    requested_at: ShownTime
    completed_at: ShownTime | None
    verified_at: ShownTime | None
    stores: list[StoreReceiptView]
    error: FailureView | None


class AcceptedDeletionView(TypedDict):
    """A deletion that was accepted; `/v1/deletions/{deletion_id}` shows its progress."""

    deletion_id: ShownDeletionId


def render_deletion(deletion: Deletion) -> DeletionView:
    """Return a deletion with its receipt."""
    return {
        "id": format_id("del", deletion.id),
        "subject": render_subject(deletion.subject_kind, deletion.subject_id),
        "status": deletion.status,
        "requested_at": render_time(deletion.requested_at),
        "completed_at": render_optional_time(deletion.completed_at),
        "verified_at": render_optional_time(deletion.verified_at),
        "stores": [
            {
                "store": store.store,
                "removed": store.removed,
                "redacted": store.redacted,
                "remaining": store.remaining,
                "retained_until": render_optional_time(store.retained_until),
                "counted": store.is_counted,
            }
            for store in deletion.stores
        ],
        "error": render_failure(deletion.error),
    }


def render_accepted_deletion(deletion: Deletion) -> AcceptedDeletionView:
    """Return the acknowledgement of a deletion."""
    return {"deletion_id": format_id("del", deletion.id)}


@routes.get("/v1/deletions")
@operation("List the deletions", Scope.READ, query=PageQuery, responses={200: Page[DeletionView]})
async def list_deletions(request: web.Request) -> web.Response:
    """Return one page of the deletions."""
    caller = caller_of(request)
    query = read_query(request, PageQuery)
    async with resources_of(request).pool.acquire() as conn:
        found = await deletion_receipts.select_deletions(
            conn, caller.workspace.id, before=query.cursor, limit=query.limit + 1
        )
    return json_response(page_by_id(found, query.limit, render_deletion))


@routes.get("/v1/deletions/{deletion_id}")
@operation("Show a deletion and its receipt", Scope.READ, Access.ADMIN, responses={200: DeletionView})
async def get_deletion(request: web.Request) -> web.Response:
    """Return one deletion. Receipts outlive their subjects; the operator can read those of deleted workspaces."""
    deletion_id = parse_id("del", request.match_info["deletion_id"])
    async with resources_of(request).pool.acquire() as conn:
        if is_admin(request):
            deletion = await deletion_receipts.select_any_deletion(conn, deletion_id)
        else:
            deletion = await deletion_receipts.select_deletion(conn, caller_of(request).workspace.id, deletion_id)
    if deletion is None:
        raise NotFound
    return json_response(render_deletion(deletion))
