"""Dead letters for operators: /v1/admin/dlq."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self, cast

from aiohttp import web
from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from ragsvc.domain.jobs import DeadLetterFilter, Fault, Queue
from ragsvc.errors.requests import DeletionNotDiscardable, NotFound, ReplayRunning
from ragsvc.http.auth import Access
from ragsvc.http.contract.bodies import Body, Time, read_body, read_query, selection_rule
from ragsvc.http.contract.ids import (
    ShownDocumentId,
    ShownJobId,
    ShownTime,
    ShownWorkspaceId,
    WorkspaceId,
)
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import LimitQuery, Moment, MomentCursor, Page, page_by
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.state import resources_of
from ragsvc.http.v1.admin_queues import parse_queue
from ragsvc.jobs import dead_letters
from ragsvc.jobs.dead_letters import ENTRY_ID_PATTERN

if TYPE_CHECKING:
    from uuid import UUID

routes = web.RouteTableDef()

# Keep the names of operations from matching as a dead-letter id.
ENTRY_PATH = "/v1/admin/dlq/{queue}/{entry_id:(?!(?:replay|purge|counts)$)[^/]+}"
MAX_IDS = 1000
MAX_CODE_CHARS = 100
SELECTORS = ("ids", "code", "workspace_id", "since")
EntryId = Annotated[str, Field(pattern=f"^{ENTRY_ID_PATTERN}$")]


class DeadLettersQuery(LimitQuery):
    """Which dead letters to list."""

    code: Annotated[str, Field(min_length=1, max_length=MAX_CODE_CHARS)] | None = None
    workspace_id: WorkspaceId | None = None
    cursor: MomentCursor | None = None


class SelectionBody(Body):
    """Which dead letters: `all`, or those that match every given condition.

    `all` requires `confirm`. Without it, or with `dry_run`, nothing is changed and the response has only the counts.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"code": "parser_timeout", "since": "2026-01-31T00:00:00Z"}],
            # The same rule as in `_check_selection`.
            **selection_rule(SELECTORS),
        }
    )

    ids: Annotated[list[EntryId], Field(min_length=1, max_length=MAX_IDS)] | None = None
    all: bool = False
    code: Annotated[str, Field(min_length=1, max_length=MAX_CODE_CHARS)] | None = None
    workspace_id: WorkspaceId | None = None
    since: Time | None = None
    confirm: bool = False
    dry_run: bool = False
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _check_selection(self) -> Self:
        selects = any(getattr(self, name) is not None for name in SELECTORS)
        if selects == self.all:
            raise ValueError("either all or at least one of ids, code, workspace_id and since is required")
        return self

    @property
    def selection(self) -> DeadLetterFilter:
        """The dead letters that are selected."""
        return DeadLetterFilter(
            ids=tuple(dead_letters.parse_entry_id(text)[0] for text in self.ids) if self.ids is not None else None,
            code=self.code,
            workspace_id=self.workspace_id,
            since=self.since,
        )

    @property
    def only_counts(self) -> bool:
        """Whether to change nothing."""
        return self.dry_run or (self.all and not self.confirm)


class ReplayBody(SelectionBody):
    """The dead letters to replay, and how fast."""

    rate: Annotated[float, Field(gt=0, le=1000, description="Dead letters per second.")] | None = None


class PurgeBody(SelectionBody):
    """The dead letters to discard."""


class DeadLetterView(TypedDict):
    """A job that failed permanently."""

    v: int
    entry_id: str
    job_id: ShownJobId
    queue: Queue
    kind: str
    document_id: ShownDocumentId | None
    workspace_id: ShownWorkspaceId
    workspace_name: str | None
    filename: str | None
    fault: Fault
    args: dict[str, object]
    error: dict[str, object] | None
    attempts: int
    rescues: int
    stage: str | None
    enqueued_at: ShownTime
    first_failed_at: ShownTime | None
    last_failed_at: ShownTime | None
    worker: str | None
    app_version: str
    trace_id: str | None
    replay_count: int


class ReplayView(TypedDict):
    """The counts of a replay; a dry run replays nothing."""

    matched: int
    replayed: int
    superseded: int
    dry_run: bool


class PurgeView(TypedDict):
    """The counts of a purge; a dry run discards nothing."""

    matched: int
    discarded: int
    refused: int
    dry_run: bool


class CountsView(TypedDict):
    """The number of dead letters by error code."""

    queue: Queue
    counts: dict[str, int]


@routes.get("/v1/admin/dlq/{queue}/counts")
@operation("Count dead letters", Access.ADMIN, responses={200: CountsView})
async def count_dlq_entries(request: web.Request) -> web.Response:
    """Return the number of a queue's dead letters by error code."""
    queue = parse_queue(request)
    counts = await dead_letters.count_dead_letters(resources_of(request), queue)
    return json_response(CountsView(queue=queue, counts=counts))


@routes.get("/v1/admin/dlq/{queue}")
@operation("List a queue's dead letters", Access.ADMIN, query=DeadLettersQuery, responses={200: Page[DeadLetterView]})
async def list_dlq_entries(request: web.Request) -> web.Response:
    """Return one page of dead letters, newest first; concurrent changes do not shift the pages."""
    queue = parse_queue(request)
    query = read_query(request, DeadLettersQuery)
    found = await dead_letters.list_dead_letters(
        resources_of(request),
        queue,
        DeadLetterFilter(code=query.code, workspace_id=query.workspace_id),
        limit=query.limit + 1,
        after=query.cursor,
    )
    return json_response(page_by(found, query.limit, _render_entry, position=_position_of))


@routes.get(ENTRY_PATH)
@operation("Show a dead letter", Access.ADMIN, responses={200: DeadLetterView})
async def get_dlq_entry(request: web.Request) -> web.Response:
    """Return one dead letter."""
    entry = await dead_letters.get_dead_letter(resources_of(request), parse_queue(request), *_parse_entry_id(request))
    if entry is None:
        raise NotFound
    return json_response(_render_entry(entry))


@routes.post("/v1/admin/dlq/{queue}/replay")
@operation(
    "Replay dead letters",
    Access.ADMIN,
    body=ReplayBody,
    responses={200: ReplayView},
    problems=(ReplayRunning,),
)
async def replay_dlq_entries(request: web.Request) -> web.Response:
    """Requeue each dead letter exactly once, even if the request is repeated or sent concurrently."""
    queue = parse_queue(request)
    body = await read_body(request, ReplayBody)
    result = await dead_letters.replay(
        resources_of(request),
        queue,
        body.selection,
        dry_run=body.only_counts,
        rate_per_s=body.rate,
        limit=body.limit,
    )
    return json_response(asdict(result))


@routes.post("/v1/admin/dlq/{queue}/purge")
@operation("Discard dead letters", Access.ADMIN, body=PurgeBody, responses={200: PurgeView})
async def purge_dlq_entries(request: web.Request) -> web.Response:
    """Discard dead letters permanently; their jobs become `discarded`."""
    queue = parse_queue(request)
    body = await read_body(request, PurgeBody)
    result = await dead_letters.discard_matching(
        resources_of(request), queue, body.selection, dry_run=body.only_counts, limit=body.limit
    )
    return json_response(asdict(result))


@routes.delete(ENTRY_PATH)
@operation("Discard a dead letter", Access.ADMIN, responses={204: None}, problems=(DeletionNotDiscardable,))
async def delete_dlq_entry(request: web.Request) -> web.Response:
    """Discard one dead letter. That of a deletion cannot be discarded, since the deletion was acknowledged."""
    if not await dead_letters.discard(resources_of(request), parse_queue(request), *_parse_entry_id(request)):
        raise NotFound
    return web.Response(status=204)


def _parse_entry_id(request: web.Request) -> tuple[UUID, int | None]:
    try:
        return dead_letters.parse_entry_id(request.match_info["entry_id"])
    except ValueError:
        raise NotFound from None


def _position_of(entry: dict[str, object]) -> Moment:
    job_id, _ = dead_letters.parse_entry_id(str(entry["entry_id"]))
    return cast("datetime", entry["last_failed_at"]), job_id


def _render_entry(entry: dict[str, object]) -> dict[str, object]:
    return {name: render_time(value) if isinstance(value, datetime) else value for name, value in entry.items()}
