"""Runs, each of which produces one answer: /v1/chat/runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.domain.chat.conversations import ChatRun, RunStatus
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import InvalidRequest, NotFound, RunActive, RunNotRetryable, TooManyRuns
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Body, Query, read_body, read_query
from ragsvc.http.contract.headers import LAST_EVENT_ID, RUN_ID
from ragsvc.http.contract.ids import SessionId, ShownMessageId, ShownRunId, ShownSessionId, ShownTime, parse_id
from ragsvc.http.contract.operations import Media, operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response, render_optional_time, render_time
from ragsvc.http.idempotency import resource_id_of
from ragsvc.http.sse import reserve_stream
from ragsvc.http.state import resources_of
from ragsvc.http.v1.chat_events import RUN_EVENTS, RunErrorView, render_run_error
from ragsvc.http.v1.run_responses import ANSWER, respond_again, respond_with_run, runs_of, stream_events
from ragsvc.runs import requests, runs

if TYPE_CHECKING:
    from uuid import UUID

routes = web.RouteTableDef()

MAX_EVENT_ID = 2**31 - 1
EVENTS = Media("text/event-stream", "The run's events after the given one, up to its end.", events=RUN_EVENTS)
_EVENT_ID = re.compile(r"[0-9]{1,9}")


class EventsQuery(Query):
    """Where to start; the header `Last-Event-ID` takes precedence."""

    after: Annotated[
        int, Field(ge=0, le=MAX_EVENT_ID, description="The number of the last event that the client has.")
    ] = 0


class RunsQuery(PageQuery):
    """Which runs to list."""

    session_id: SessionId | None = None
    status: RunStatus | None = None


class RetryBody(Body):
    """How to send the new answer."""

    stream: bool = True


class RunView(TypedDict):
    """A run, which produces one answer."""

    id: ShownRunId
    session_id: ShownSessionId
    message_id: ShownMessageId
    status: RunStatus
    last_event_id: int
    finish_reason: str | None
    error: RunErrorView | None
    created_at: ShownTime
    finished_at: ShownTime | None


def render_run(run: ChatRun) -> RunView:
    """Return a run."""
    return {
        "id": format_id("run", run.id),
        "session_id": format_id("chat", run.session_id),
        "message_id": format_id("msg", run.message_id),
        "status": run.status,
        "last_event_id": run.last_event_id,
        "finish_reason": run.finish_reason,
        "error": render_run_error(run),
        "created_at": render_time(run.created_at),
        "finished_at": render_optional_time(run.finished_at),
    }


@routes.get("/v1/chat/runs")
@operation("List the runs", Scope.CHAT, query=RunsQuery, responses={200: Page[RunView]}, problems=(NotFound,))
async def list_chat_runs(request: web.Request) -> web.Response:
    """Return one page of the runs, optionally of one session or status."""
    workspace_id = caller_of(request).workspace.id
    query = read_query(request, RunsQuery)
    found = await runs.list_chat_runs(
        resources_of(request),
        workspace_id,
        session_id=query.session_id,
        status=query.status,
        before=query.cursor,
        limit=query.limit + 1,
    )
    return json_response(page_by_id(found, query.limit, render_run))


@routes.get("/v1/chat/runs/{run_id}")
@operation("Show a run", Scope.CHAT, responses={200: RunView})
async def get_chat_run(request: web.Request) -> web.Response:
    """Return one run."""
    run = await runs.get_run(resources_of(request), caller_of(request).workspace.id, _run_id(request))
    return json_response(render_run(run))


@routes.get("/v1/chat/runs/{run_id}/events", allow_head=False)
@operation(
    "Follow a run",
    Scope.CHAT,
    query=EventsQuery,
    responses={200: EVENTS},
    response_headers={200: (RUN_ID,)},
    headers=(LAST_EVENT_ID,),
)
async def stream_chat_run_events(request: web.Request) -> web.StreamResponse:
    """Stream a run's events, including past ones, whichever process executes the run."""
    caller = caller_of(request)
    after = _read_last_event_id(request, read_query(request, EventsQuery).after)
    run = await runs.get_run(resources_of(request), caller.workspace.id, _run_id(request))
    with reserve_stream(request, caller) as slot:
        return await stream_events(request, slot, workspace_id=caller.workspace.id, run_id=run.id, after=after)


@routes.post("/v1/chat/runs/{run_id}/cancel")
@operation("Cancel a run", Scope.CHAT, responses={202: RunView})
async def cancel_chat_run(request: web.Request) -> web.Response:
    """Request a run's cancellation. Its text so far is stored; a run that has already ended is unchanged."""
    run = await runs.cancel_run(runs_of(request), caller_of(request).workspace.id, _run_id(request))
    return json_response(render_run(run), status=202)


@routes.post("/v1/chat/runs/{run_id}/retry")
@operation(
    "Retry a run",
    Scope.CHAT,
    body=RetryBody,
    body_optional=True,
    responses={200: ANSWER},
    response_headers={200: (RUN_ID,)},
    problems=(RunActive, TooManyRuns, RunNotRetryable),
    again=respond_again,
)
async def retry_chat_run(request: web.Request) -> web.StreamResponse:
    """Start a new run for the same message and stream its answer as it is written."""
    caller = caller_of(request)
    run_id = _run_id(request)
    body = await read_body(request, RetryBody, optional=True)
    with reserve_stream(request, caller) as slot:
        run = await requests.retry_run(
            runs_of(request), caller.workspace.id, run_id, new_run_id=resource_id_of(request)
        )
        return await respond_with_run(request, slot, run, stream=body.stream)


def _run_id(request: web.Request) -> UUID:
    return parse_id("run", request.match_info["run_id"])


def _read_last_event_id(request: web.Request, after: int) -> int:
    header = request.headers.get("Last-Event-ID")
    if not header:
        return after
    if not _EVENT_ID.fullmatch(header):
        raise InvalidRequest(fields={"Last-Event-ID": "must be the number of an event"})
    return int(header)
