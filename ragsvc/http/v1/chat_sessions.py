"""Conversations: /v1/chat/sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.db import chat_sessions, collections
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors import NotFound
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Body, Name, read_body, read_query
from ragsvc.http.contract.ids import ShownCollectionId, ShownSessionId, ShownTime, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.idempotency import resource_id_of
from ragsvc.http.state import resources_of
from ragsvc.http.v1.search import CollectionIds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.chat import ChatSession

routes = web.RouteTableDef()

MAX_INSTRUCTIONS_CHARS = 8000

Instructions = Annotated[str, Field(max_length=MAX_INSTRUCTIONS_CHARS)]


class SessionBody(Body):
    """A new conversation; without collections it searches the whole workspace."""

    title: Name | None = None
    collection_ids: CollectionIds | None = None
    instructions: Instructions | None = None
    model: Name | None = None


class SessionChanges(SessionBody):
    """Changes to a conversation: what is left out stays, null is the default again."""


class SessionView(TypedDict):
    """A conversation; `collection_ids` is null where it searches the whole workspace."""

    id: ShownSessionId
    title: str | None
    collection_ids: list[ShownCollectionId] | None
    instructions: str | None
    model: str | None
    created_at: ShownTime
    updated_at: ShownTime


def render_session(session: ChatSession) -> SessionView:
    """Return a conversation."""
    ids = session.collection_ids
    return {
        "id": format_id("chat", session.id),
        "title": session.title,
        "collection_ids": None if ids is None else [format_id("col", collection_id) for collection_id in ids],
        "instructions": session.instructions,
        "model": session.model,
        "created_at": render_time(session.created_at),
        "updated_at": render_time(session.updated_at),
    }


async def _answer_again(request: web.Request, session_id: UUID) -> web.Response | None:
    async with resources_of(request).pool.acquire() as conn:
        session = await chat_sessions.select_session(conn, caller_of(request).workspace.id, session_id)
    return json_response(render_session(session), status=201) if session else None


@routes.post("/v1/chat/sessions")
@operation(
    "Begin a conversation",
    Scope.CHAT,
    body=SessionBody,
    body_optional=True,
    responses={201: SessionView},
    problems=(NotFound,),
    again=_answer_again,
)
async def create_session(request: web.Request) -> web.Response:
    """Begin a conversation."""
    caller = caller_of(request)
    body = await read_body(request, SessionBody, optional=True)
    async with resources_of(request).pool.acquire() as conn:
        await _check_collections(conn, caller.workspace.id, body.collection_ids)
        session = await chat_sessions.insert_session(
            conn,
            caller.workspace.id,
            resource_id_of(request),
            title=body.title,
            instructions=body.instructions,
            model=body.model,
            collection_ids=body.collection_ids,
        )
    return json_response(render_session(session), status=201)


@routes.get("/v1/chat/sessions")
@operation("List the conversations", Scope.CHAT, query=PageQuery, responses={200: Page[SessionView]})
async def list_sessions(request: web.Request) -> web.Response:
    """Answer one page of the conversations."""
    caller = caller_of(request)
    query = read_query(request, PageQuery)
    async with resources_of(request).pool.acquire() as conn:
        found = await chat_sessions.select_sessions(
            conn, caller.workspace.id, before=query.cursor, limit=query.limit + 1
        )
    return json_response(page_by_id(found, query.limit, render_session))


@routes.get("/v1/chat/sessions/{session_id}")
@operation("Show a conversation", Scope.CHAT, responses={200: SessionView})
async def get_session(request: web.Request) -> web.Response:
    """Answer one conversation, without its messages."""
    return json_response(render_session(await find_session(request)))


@routes.patch("/v1/chat/sessions/{session_id}")
@operation("Change a conversation", Scope.CHAT, body=SessionChanges, responses={200: SessionView})
async def update_session(request: web.Request) -> web.Response:
    """Change a conversation; it holds for the next message."""
    session = await find_session(request)
    body = await read_body(request, SessionChanges)
    changes = body.model_dump(include=body.model_fields_set)
    if changes.get("collection_ids") is not None:
        changes["collection_ids"] = tuple(changes["collection_ids"])
    async with resources_of(request).pool.acquire() as conn:
        await _check_collections(conn, session.workspace_id, changes.get("collection_ids"))
        changed = await chat_sessions.update_session(conn, replace(session, **changes))
    if changed is None:
        raise NotFound
    return json_response(render_session(changed))


@routes.delete("/v1/chat/sessions/{session_id}")
@operation("Delete a conversation and its messages", Scope.CHAT, responses={204: None})
async def delete_session(request: web.Request) -> web.Response:
    """Delete a conversation; an answer that is being written stops."""
    caller = caller_of(request)
    session_id = parse_id("chat", request.match_info["session_id"])
    subject = (AuditSubject.CHAT_SESSION, session_id)
    async with resources_of(request).pool.acquire() as conn, conn.transaction():
        if not await chat_sessions.delete_session(conn, caller.workspace.id, session_id):
            raise NotFound
        await insert_audit_event(
            conn, AuditAction.CHAT_SESSION_DELETED, workspace_id=caller.workspace.id, subject=subject
        )
    return web.Response(status=204)


async def find_session(request: web.Request) -> ChatSession:
    """Return the conversation that the path names.

    Raises:
        NotFound: the workspace has no such conversation.
    """
    caller = caller_of(request)
    session_id = parse_id("chat", request.match_info["session_id"])
    async with resources_of(request).pool.acquire() as conn:
        session = await chat_sessions.select_session(conn, caller.workspace.id, session_id)
    if session is None:
        raise NotFound
    return session


async def _check_collections(conn: Connection, workspace_id: UUID, collection_ids: Sequence[UUID] | None) -> None:
    if collection_ids is None:
        return
    known = await collections.select_known_collection_ids(conn, workspace_id, collection_ids)
    if known != set(collection_ids):
        raise NotFound("One of the collections does not exist.")
