"""Operations on many documents: /v1/documents/bulk-delete, …/bulk-reingest and /v1/bulk-operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from aiohttp import web
from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from ragsvc.bulk.requests import count_selected, request_bulk_operation
from ragsvc.db import bulk_operations
from ragsvc.domain.bulk import BulkAction, BulkOperation, BulkStatus
from ragsvc.domain.documents import DocumentStatus
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import NotFound
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Body, read_body, read_query, selection_rule
from ragsvc.http.contract.filters import FilterBody, read_filter
from ragsvc.http.contract.ids import CollectionId, ShownBulkId, ShownTime, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import FailureView, json_response, render_failure, render_optional_time, render_time
from ragsvc.http.idempotency import resource_id_of
from ragsvc.http.state import resources_of

if TYPE_CHECKING:
    from uuid import UUID

routes = web.RouteTableDef()

SELECTORS = ("collection_id", "status", "filters")


class SelectionBody(Body):
    """The documents to process: those that match every given condition, or `all`; `dry_run` only counts them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"filters": {"type": "eq", "key": "team", "value": "operations"}, "dry_run": True}],
            # The rule that `_check_selection` enforces.
            **selection_rule(SELECTORS),
        }
    )

    collection_id: CollectionId | None = None
    status: DocumentStatus | None = None
    filters: FilterBody | None = None
    all: bool = False
    dry_run: bool = False

    @model_validator(mode="after")
    def _check_selection(self) -> Self:
        if any(getattr(self, name) is not None for name in SELECTORS) == self.all:
            raise ValueError("give either all, or some of collection_id, status and filters")
        return self


class BulkDeletionBody(SelectionBody):
    """Which documents to delete, and whether to delete source files that nothing else uses."""

    purge_file: bool = Field(default=True)


class BulkReingestionBody(SelectionBody):
    """Which documents to ingest again, each with its collection's chunking at the time of ingestion."""


class BulkOperationView(TypedDict):
    """An operation on many documents: of the `matched` ones, `accepted` already have their own job.

    Documents that were already deleted or being ingested when their turn came are `skipped`.
    """

    id: ShownBulkId
    action: BulkAction
    status: BulkStatus
    matched: int
    accepted: int
    skipped: int
    progress: float
    error: FailureView | None
    created_at: ShownTime
    completed_at: ShownTime | None


class BulkCountView(TypedDict):
    """How many documents a bulk operation would affect."""

    dry_run: Literal[True]
    matched: int


def render_bulk_operation(operation: BulkOperation) -> BulkOperationView:
    """Return a bulk operation."""
    processed = operation.accepted + operation.skipped
    is_completed = operation.status is BulkStatus.COMPLETED
    return {
        "id": format_id("bulk", operation.id),
        "action": operation.action,
        "status": operation.status,
        "matched": operation.matched,
        "accepted": operation.accepted,
        "skipped": operation.skipped,
        # Documents can be deleted in the meantime, so the count alone does not show completion.
        "progress": 1.0 if is_completed else round(min(processed / max(operation.matched, 1), 1.0), 4),
        "error": render_failure(operation.error),
        "created_at": render_time(operation.created_at),
        "completed_at": render_optional_time(operation.completed_at),
    }


async def _respond_again(request: web.Request, operation_id: UUID) -> web.Response | None:
    async with resources_of(request).pool.acquire() as conn:
        found = await bulk_operations.select_bulk_operation(conn, caller_of(request).workspace.id, operation_id)
    return json_response(render_bulk_operation(found), status=202) if found else None


@routes.post("/v1/documents/bulk-delete")
@operation(
    "Delete many documents",
    Scope.WRITE,
    body=BulkDeletionBody,
    responses={200: BulkCountView, 202: BulkOperationView},
    problems=(NotFound,),
    again=_respond_again,
)
async def bulk_delete_documents(request: web.Request) -> web.Response:
    """Accept the deletion of all matching documents; each is hidden and queued when its turn comes."""
    body = await read_body(request, BulkDeletionBody)
    return await _accept(request, BulkAction.DELETE, body, purge_file=body.purge_file)


@routes.post("/v1/documents/bulk-reingest")
@operation(
    "Ingest many documents again",
    Scope.WRITE,
    body=BulkReingestionBody,
    responses={200: BulkCountView, 202: BulkOperationView},
    problems=(NotFound,),
    again=_respond_again,
)
async def bulk_reingest_documents(request: web.Request) -> web.Response:
    """Accept the re-ingestion of all matching documents; each version remains active until the new one is ready."""
    return await _accept(request, BulkAction.REINGEST, await read_body(request, BulkReingestionBody))


@routes.get("/v1/bulk-operations")
@operation("List the bulk operations", Scope.READ, query=PageQuery, responses={200: Page[BulkOperationView]})
async def list_bulk_operations(request: web.Request) -> web.Response:
    """Return one page of the operations."""
    query = read_query(request, PageQuery)
    async with resources_of(request).pool.acquire() as conn:
        found = await bulk_operations.select_bulk_operations(
            conn, caller_of(request).workspace.id, before=query.cursor, limit=query.limit + 1
        )
    return json_response(page_by_id(found, query.limit, render_bulk_operation))


@routes.get("/v1/bulk-operations/{bulk_id}")
@operation("Show a bulk operation's progress", Scope.READ, responses={200: BulkOperationView})
async def get_bulk_operation(request: web.Request) -> web.Response:
    """Return one operation."""
    bulk_id = parse_id("bulk", request.match_info["bulk_id"])
    async with resources_of(request).pool.acquire() as conn:
        found = await bulk_operations.select_bulk_operation(conn, caller_of(request).workspace.id, bulk_id)
    if found is None:
        raise NotFound
    return json_response(render_bulk_operation(found))


async def _accept(
    request: web.Request, action: BulkAction, body: SelectionBody, *, purge_file: bool = True
) -> web.Response:
    resources, workspace_id = resources_of(request), caller_of(request).workspace.id
    filters = read_filter(body.filters)
    if body.dry_run:
        matched = await count_selected(
            resources, workspace_id, collection_id=body.collection_id, status=body.status, filters=filters
        )
        return json_response({"dry_run": True, "matched": matched})
    accepted = await request_bulk_operation(
        resources,
        workspace_id,
        action,
        operation_id=resource_id_of(request),
        collection_id=body.collection_id,
        status=body.status,
        filters=filters,
        purge_file=purge_file,
    )
    return json_response(render_bulk_operation(accepted), status=202)
