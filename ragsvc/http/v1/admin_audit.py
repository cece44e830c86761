"""The audit log, for the operator: /v1/admin/audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import BeforeValidator, Field, WithJsonSchema
from typing_extensions import TypedDict

from ragsvc.db import audit_events
from ragsvc.domain.audit import ActorKind, AuditAction, AuditFilter, AuditSubject
from ragsvc.domain.ids import Prefix, format_id
from ragsvc.errors.requests import NotFound
from ragsvc.http.auth import Access
from ragsvc.http.contract.bodies import Time, read_query
from ragsvc.http.contract.ids import (
    ShownAuditEventId,
    ShownKeyId,
    ShownTime,
    ShownWorkspaceId,
    WorkspaceId,
    id_pattern,
    parse_id,
)
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.state import resources_of

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.audit import AuditEvent

routes = web.RouteTableDef()

PREFIXES: dict[AuditSubject, Prefix] = {
    AuditSubject.WORKSPACE: "ws",
    AuditSubject.KEY: "key",
    AuditSubject.COLLECTION: "col",
    AuditSubject.DOCUMENT: "doc",
    AuditSubject.BULK: "bulk",
    AuditSubject.FILE: "file",
    AuditSubject.CHAT_SESSION: "chat",
    AuditSubject.WEBHOOK: "hook",
}


def _read_actor(text: str) -> str:
    if text not in set(ActorKind):
        try:
            parse_id("key", text)
        except NotFound:
            raise ValueError(f"must be one of {', '.join(ActorKind)}, or a key id") from None
    return text


class AuditQuery(PageQuery):
    """Which events to list."""

    workspace_id: WorkspaceId | None = None
    action: AuditAction | None = None
    actor: (
        Annotated[
            str,
            BeforeValidator(_read_actor),
            WithJsonSchema({"anyOf": [{"enum": list(ActorKind)}, {"type": "string", "pattern": id_pattern("key")}]}),
            Field(description="A kind of actor, or a key id."),
        ]
        | None
    ) = None
    since: Annotated[Time | None, Field(description="Start of the period, inclusive.")] = None
    until: Annotated[Time | None, Field(description="End of the period, exclusive.")] = None


class ActorView(TypedDict):
    """Who acted; `id` is set for keys only."""

    kind: ActorKind
    id: ShownKeyId | None
    name: str


class AuditSubjectView(TypedDict):
    """What an action applied to; a queue's id is its name."""

    kind: AuditSubject
    id: str


class AuditEventView(TypedDict):
    """An audited action; `ip` is the peer's address, possibly a load balancer's; `forwarded_for` is unverified."""

    id: ShownAuditEventId
    occurred_at: ShownTime
    action: AuditAction
    actor: ActorView
    workspace_id: ShownWorkspaceId | None
    subject: AuditSubjectView | None
    details: dict[str, object]
    request_id: str | None
    ip: str | None
    forwarded_for: str | None
    user_agent: str | None


@routes.get("/v1/admin/audit")
@operation("List the audit log", Access.ADMIN, query=AuditQuery, responses={200: Page[AuditEventView]})
async def list_audit_events(request: web.Request) -> web.Response:
    """Return one page of the audited actions: those of operators, and deletions by keys."""
    query = read_query(request, AuditQuery)
    key_id, kind = _split_actor(query.actor)
    wanted = AuditFilter(
        workspace_id=query.workspace_id,
        action=query.action,
        actor_kind=kind,
        actor_id=key_id,
        since=query.since,
        until=query.until,
    )
    async with resources_of(request).pool.acquire() as conn:
        found = await audit_events.select_audit_events(conn, wanted, before=query.cursor, limit=query.limit + 1)
    return json_response(page_by_id(found, query.limit, render_event))


def _split_actor(actor: str | None) -> tuple[UUID | None, ActorKind | None]:
    if actor is None:
        return None, None
    return (None, ActorKind(actor)) if actor in set(ActorKind) else (parse_id("key", actor), None)


def render_event(event: AuditEvent) -> AuditEventView:
    """Return an audited action."""
    actor = event.actor
    return {
        "id": format_id("aud", event.id),
        "occurred_at": render_time(event.occurred_at),
        "action": event.action,
        "actor": {"kind": actor.kind, "id": format_id("key", actor.id) if actor.id else None, "name": actor.name},
        "workspace_id": format_id("ws", event.workspace_id) if event.workspace_id else None,
        "subject": _render_subject(event),
        "details": event.details,
        "request_id": actor.request_id,
        "ip": actor.ip,
        "forwarded_for": actor.forwarded_for,
        "user_agent": actor.user_agent,
    }


def _render_subject(event: AuditEvent) -> AuditSubjectView | None:
    kind, subject_id = event.subject_kind, event.subject_id
    if kind is None or subject_id is None:
        return None
    return {"kind": kind, "id": f"{PREFIXES[kind]}_{subject_id}" if kind in PREFIXES else subject_id}
