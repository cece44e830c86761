"""Webhooks that notify a workspace about its documents: /v1/webhooks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.domain.ids import format_id
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import TooManyWebhooks, WebhookRefused
from ragsvc.http.auth import caller_of, derive_secret
from ragsvc.http.contract.bodies import Body, read_body, read_query
from ragsvc.http.contract.ids import ShownTime, ShownWebhookId, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.idempotency import resource_id_of, seed_of
from ragsvc.http.state import resources_of
from ragsvc.webhooks import registration
from ragsvc.webhooks.signing import SECRET_PREFIX, show_secret

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.webhooks import Webhook


routes = web.RouteTableDef()


class WebhookBody(Body):
    """A new webhook; without `events` it receives all of them."""

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    events: list[WebhookEvent] = Field(
        default_factory=lambda: list(WebhookEvent), min_length=1, max_length=len(WebhookEvent)
    )


def _derive_secret(request: web.Request) -> bytes:
    """Return the signing secret; a repeat of the same idempotent request gets the same one."""
    return hashlib.sha256(derive_secret(request, SECRET_PREFIX, seed_of(request)).encode()).digest()


class WebhookView(TypedDict):
    """A webhook without its secret."""

    id: ShownWebhookId
    url: str
    events: list[WebhookEvent]
    created_at: ShownTime


class CreatedWebhookView(WebhookView):
    """A new webhook with its secret, which is shown only once."""

    secret: str


def render_webhook(webhook: Webhook) -> WebhookView:
    """Return a webhook without its secret."""
    return {
        "id": format_id("hook", webhook.id),
        "url": webhook.url,
        "events": list(webhook.events),
        "created_at": render_time(webhook.created_at),
    }


async def _respond_again(request: web.Request, webhook_id: UUID) -> web.Response | None:
    webhook = await registration.find_webhook(resources_of(request), caller_of(request).workspace.id, webhook_id)
    return _show(webhook) if webhook else None


def _show(webhook: Webhook) -> web.Response:
    return json_response({**render_webhook(webhook), "secret": show_secret(webhook.secret)}, status=201)


@routes.post("/v1/webhooks")
@operation(
    "Create a webhook",
    Scope.WRITE,
    body=WebhookBody,
    responses={201: CreatedWebhookView},
    problems=(WebhookRefused, TooManyWebhooks),
    again=_respond_again,
    shows_secret=True,
)
async def create_webhook(request: web.Request) -> web.Response:
    """Create a webhook and return the secret that signs its deliveries, which is shown only once."""
    body = await read_body(request, WebhookBody)
    webhook = await registration.create_webhook(
        resources_of(request),
        caller_of(request).workspace.id,
        resource_id_of(request),
        url=body.url,
        events=body.events,
        secret=_derive_secret(request),
    )
    return _show(webhook)


@routes.get("/v1/webhooks")
@operation("List the webhooks", Scope.READ, query=PageQuery, responses={200: Page[WebhookView]})
async def list_webhooks(request: web.Request) -> web.Response:
    """Return one page of the webhooks."""
    query = read_query(request, PageQuery)
    found = await registration.list_webhooks(
        resources_of(request), caller_of(request).workspace.id, before=query.cursor, limit=query.limit + 1
    )
    return json_response(page_by_id(found, query.limit, render_webhook))


@routes.get("/v1/webhooks/{webhook_id}")
@operation("Show a webhook", Scope.READ, responses={200: WebhookView})
async def get_webhook(request: web.Request) -> web.Response:
    """Return one webhook."""
    webhook_id = parse_id("hook", request.match_info["webhook_id"])
    webhook = await registration.get_webhook(resources_of(request), caller_of(request).workspace.id, webhook_id)
    return json_response(render_webhook(webhook))


@routes.delete("/v1/webhooks/{webhook_id}")
@operation("Delete a webhook", Scope.WRITE, responses={204: None})
async def delete_webhook(request: web.Request) -> web.Response:
    """Delete a webhook; events not delivered yet are dropped."""
    webhook_id = parse_id("hook", request.match_info["webhook_id"])
    await registration.delete_webhook(resources_of(request), caller_of(request).workspace.id, webhook_id)
    return web.Response(status=204)
