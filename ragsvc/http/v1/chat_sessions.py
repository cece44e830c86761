"""Chat sessions: /v1/chat/sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import NotFound
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Body, Name, read_body, read_query
from ragsvc.http.contract.ids import ShownCollectionId, ShownSessionId, ShownTime, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.idempotency import resource_id_of
from ragsvc.http.state import resources_of
from ragsvc.http.v1.search import CollectionIds
from ragsvc.runs import sessions

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.chat.conversations import ChatSession

routes = web.RouteTableDef()

MAX_INSTRUCTIONS_CHARS = 8000
MAX_NO_ANSWER_CHARS = 1000

Instructions = Annotated[str, Field(max_length=MAX_INSTRUCTIONS_CHARS)]
NoAnswerText = Annotated[str, Field(max_length=MAX_NO_ANSWER_CHARS, pattern=r"\S")]


class SessionBody(Body):
    """A new session; without `collection_ids` it searches the whole workspace."""

    title: Name | None = None
    collection_ids: CollectionIds | None = None
    instructions: Instructions | None = None
    model: Name | None = None
    no_answer_text: NoAnswerText | None = None


class SessionChanges(SessionBody):
    """Changes to a session; absent fields are unchanged, null restores the default."""


class SessionView(TypedDict):
    """A session; `collection_ids` is null if it searches the whole workspace."""

    id: ShownSessionId
    title: str | None
    collection_ids: list[ShownCollectionId] | None
    instructions: str | None
    model: str | None
    no_answer_text: str | None
    created_at: ShownTime
    updated_at: ShownTime


def render_session(session: ChatSession) -> SessionView:
    """Return a session."""
    ids = session.collection_ids
    return {
        "id": format_id("chat", session.id),
        "title": session.title,
        "collection_ids": None if ids is None else [format_id("col", collection_id) for collection_id in ids],
        "instructions": session.instructions,
        "model": session.model,
        "no_answer_text": session.no_answer_text,
        "created_at": render_time(session.created_at),
        "updated_at": render_time(session.updated_at),
    }


async def _respond_again(request: web.Request, session_id: UUID) -> web.Response | None:
    session = await sessions.find_session(resources_of(request), caller_of(request).workspace.id, session_id)
    return json_response(render_session(session), status=201) if session else None


@routes.post("/v1/chat/sessions")
@operation(
    "Create a chat session",
    Scope.CHAT,
    body=SessionBody,
    body_optional=True,
    responses={201: SessionView},
    problems=(NotFound,),
    again=_respond_again,
)
async def create_chat_session(request: web.Request) -> web.Response:
    """Create a session."""
    caller = caller_of(request)
    body = await read_body(request, SessionBody, optional=True)
    session = await sessions.create_session(
        resources_of(request),
        caller.workspace.id,
        resource_id_of(request),
        title=body.title,
        instructions=body.instructions,
        model=body.model,
        collection_ids=body.collection_ids,
        no_answer_text=body.no_answer_text,
    )
    return json_response(render_session(session), status=201)


@routes.get("/v1/chat/sessions")
@operation("List the chat sessions", Scope.CHAT, query=PageQuery, responses={200: Page[SessionView]})
async def list_chat_sessions(request: web.Request) -> web.Response:
    """Return one page of the sessions."""
    caller = caller_of(request)
    query = read_query(request, PageQuery)
    found = await sessions.list_sessions(
        resources_of(request), caller.workspace.id, before=query.cursor, limit=query.limit + 1
    )
    return json_response(page_by_id(found, query.limit, render_session))


@routes.get("/v1/chat/sessions/{session_id}")
@operation("Show a chat session", Scope.CHAT, responses={200: SessionView})
async def get_chat_session(request: web.Request) -> web.Response:
    """Return one session, without its messages."""
    session = await sessions.get_session(resources_of(request), caller_of(request).workspace.id, session_id_of(request))
    return json_response(render_session(session))


@routes.patch("/v1/chat/sessions/{session_id}")
@operation("Update a chat session", Scope.CHAT, body=SessionChanges, responses={200: SessionView})
async def update_chat_session(request: web.Request) -> web.Response:
    """Update a session; the changes apply from the next message."""
    resources = resources_of(request)
    # An unknown session is reported before an invalid body.
    session = await sessions.get_session(resources, caller_of(request).workspace.id, session_id_of(request))
    body = await read_body(request, SessionChanges)
    changed = await sessions.update_session(resources, session, body.model_dump(include=body.model_fields_set))
    return json_response(render_session(changed))


@routes.delete("/v1/chat/sessions/{session_id}")
@operation("Delete a chat session and its messages", Scope.CHAT, responses={204: None})
async def delete_chat_session(request: web.Request) -> web.Response:
    """Delete a session; an answer in progress is stopped."""
    await sessions.delete_session(resources_of(request), caller_of(request).workspace.id, session_id_of(request))
    return web.Response(status=204)


def session_id_of(request: web.Request) -> UUID:
    """Return the session id in the path; raises NotFound if it is malformed."""
    return parse_id("chat", request.match_info["session_id"])
