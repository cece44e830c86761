"""The messages of a chat session: /v1/chat/sessions/{id}/messages."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field

from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import AnswerFailed, RunActive, TooManyRuns
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Body, read_body, read_query
from ragsvc.http.contract.filters import FilterBody, read_filter
from ragsvc.http.contract.headers import RUN_ID
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.idempotency import resource_id_of
from ragsvc.http.sse import reserve_stream
from ragsvc.http.state import resources_of
from ragsvc.http.v1.chat_message_views import MessageView, render_message
from ragsvc.http.v1.chat_sessions import session_id_of
from ragsvc.http.v1.run_responses import ANSWER, respond_again, respond_with_run, runs_of
from ragsvc.runs.requests import DEFAULT_LIMIT, begin_run
from ragsvc.runs.sessions import list_session_messages

routes = web.RouteTableDef()

MAX_QUESTION_CHARS = 32_000
MAX_SOURCES = 50


class QuestionBody(Body):
    """A question; `limit` is how many chunks to retrieve, and `stream: false` waits for the whole answer."""

    content: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARS, pattern=r"\S")]
    filters: FilterBody | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_SOURCES)] = DEFAULT_LIMIT
    stream: bool = True


@routes.post("/v1/chat/sessions/{session_id}/messages")
@operation(
    "Ask a question",
    Scope.CHAT,
    body=QuestionBody,
    responses={200: ANSWER},
    response_headers={200: (RUN_ID,)},
    problems=(AnswerFailed, RunActive, TooManyRuns),
    again=respond_again,
)
async def create_chat_message(request: web.Request) -> web.StreamResponse:
    """Start answering a question and stream the answer as it is written."""
    caller = caller_of(request)
    session_id = session_id_of(request)
    body = await read_body(request, QuestionBody)
    filters = read_filter(body.filters)
    workspace_id = caller.workspace.id
    with reserve_stream(request, caller) as slot:
        run = await begin_run(
            runs_of(request),
            workspace_id,
            session_id,
            run_id=resource_id_of(request),
            content=body.content,
            filters=filters,
            limit=body.limit,
        )
        return await respond_with_run(request, slot, run, stream=body.stream)


@routes.get("/v1/chat/sessions/{session_id}/messages")
@operation("List a chat session's messages", Scope.CHAT, query=PageQuery, responses={200: Page[MessageView]})
async def list_chat_messages(request: web.Request) -> web.Response:
    """Return one page of a session's messages, oldest first."""
    query = read_query(request, PageQuery)
    found = await list_session_messages(
        resources_of(request),
        caller_of(request).workspace.id,
        session_id_of(request),
        after=query.cursor,
        limit=query.limit + 1,
    )
    return json_response(page_by_id(found, query.limit, render_message))
