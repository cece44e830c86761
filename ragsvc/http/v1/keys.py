"""A workspace's API keys, managed by the operator: /v1/workspaces/{id}/keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from ragsvc.domain.ids import format_id
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import KeyRotated
from ragsvc.http.auth import KEY_PREFIX, SHOWN_KEY_CHARS, Access, derive_secret, hash_key
from ragsvc.http.contract.bodies import Body, Name, Time, read_body, read_query
from ragsvc.http.contract.ids import ShownKeyId, ShownTime, parse_id
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.paging import Page, PageQuery, page_by_id
from ragsvc.http.contract.rendering import json_response, render_optional_time, render_time
from ragsvc.http.idempotency import resource_id_of, seed_of
from ragsvc.http.state import resources_of
from ragsvc.tenants import api_keys

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.workspaces import ApiKey

DAY_S = 86_400
MAX_OVERLAP_S = 30 * DAY_S

routes = web.RouteTableDef()


def _refuse_past(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        raise ValueError("must be in the future")
    return moment


class KeyBody(Body):
    """A new key; without `scopes` it gets all of them."""

    name: Name
    scopes: list[Scope] = Field(default_factory=lambda: list(Scope), min_length=1, max_length=len(Scope))
    expires_at: Annotated[Time, AfterValidator(_refuse_past)] | None = None


class RotationBody(Body):
    """How long the old key remains valid, and when the new one expires; by default, when the old one would have."""

    overlap_s: Annotated[
        int, Field(ge=0, le=MAX_OVERLAP_S, description="Seconds during which both keys work; a day by default.")
    ] = DAY_S
    expires_at: Annotated[Time, AfterValidator(_refuse_past)] | None = None


class KeyView(TypedDict):
    """A key without its secret."""

    id: ShownKeyId
    name: str
    key_prefix: str
    scopes: list[Scope]
    expires_at: ShownTime | None
    created_at: ShownTime


class ListedKeyView(KeyView):
    """A key in its workspace's list; `last_used_at` is accurate to the minute; `replaced_by` is the key's successor."""

    last_used_at: ShownTime | None
    replaced_by: ShownKeyId | None


class CreatedKeyView(KeyView):
    """A new key with its secret, which is shown only once."""

    key: str


def render_key(key: ApiKey) -> KeyView:
    """Return a key without its secret."""
    return {
        "id": format_id("key", key.id),
        "name": key.name,
        "key_prefix": key.key_prefix,
        "scopes": list(key.scopes),
        "expires_at": render_optional_time(key.expires_at),
        "created_at": render_time(key.created_at),
    }


def render_listed_key(key: ApiKey) -> ListedKeyView:
    """Return a key with its last use and its successor."""
    return {
        **render_key(key),
        "last_used_at": render_optional_time(key.last_used_at),
        "replaced_by": format_id("key", key.replaced_by) if key.replaced_by else None,
    }


async def _respond_again(request: web.Request, key_id: UUID) -> web.Response | None:
    secret = derive_secret(request, KEY_PREFIX, seed_of(request))
    key = await api_keys.find_key_by_hash(resources_of(request), hash_key(secret))
    return _show(key, secret) if key and key.id == key_id else None


def _show(key: ApiKey, secret: str) -> web.Response:
    return json_response({**render_key(key), "key": secret}, status=201)


@routes.post("/v1/workspaces/{workspace_id}/keys")
@operation(
    "Create a key", Access.ADMIN, body=KeyBody, responses={201: CreatedKeyView}, again=_respond_again, shows_secret=True
)
async def create_key(request: web.Request) -> web.Response:
    """Create a key and return its secret, which is shown only once."""
    workspace_id = parse_id("ws", request.match_info["workspace_id"])
    body = await read_body(request, KeyBody)
    secret = derive_secret(request, KEY_PREFIX, seed_of(request))
    key = await api_keys.create_key(
        resources_of(request),
        workspace_id,
        resource_id_of(request),
        name=body.name,
        key_hash=hash_key(secret),
        key_prefix=secret[:SHOWN_KEY_CHARS],
        scopes=body.scopes,
        expires_at=body.expires_at,
    )
    return _show(key, secret)


@routes.get("/v1/workspaces/{workspace_id}/keys")
@operation("List a workspace's keys", Access.ADMIN, query=PageQuery, responses={200: Page[ListedKeyView]})
async def list_keys(request: web.Request) -> web.Response:
    """Return one page of the keys that are not revoked."""
    workspace_id = parse_id("ws", request.match_info["workspace_id"])
    query = read_query(request, PageQuery)
    found = await api_keys.list_keys(resources_of(request), workspace_id, before=query.cursor, limit=query.limit + 1)
    return json_response(page_by_id(found, query.limit, render_listed_key))


@routes.post("/v1/workspaces/{workspace_id}/keys/{key_id}/rotate")
@operation(
    "Rotate a key",
    Access.ADMIN,
    body=RotationBody,
    body_optional=True,
    responses={201: CreatedKeyView},
    problems=(KeyRotated,),
    again=_respond_again,
    shows_secret=True,
)
async def rotate_key(request: web.Request) -> web.Response:
    """Create a key with the same scopes; the old key expires after the overlap."""
    workspace_id = parse_id("ws", request.match_info["workspace_id"])
    key_id = parse_id("key", request.match_info["key_id"])
    body = await read_body(request, RotationBody, optional=True)
    secret = derive_secret(request, KEY_PREFIX, seed_of(request))
    key = await api_keys.rotate_key(
        resources_of(request),
        workspace_id,
        key_id,
        successor_id=resource_id_of(request),
        key_hash=hash_key(secret),
        key_prefix=secret[:SHOWN_KEY_CHARS],
        overlap_s=body.overlap_s,
        expires_at=body.expires_at,
    )
    return _show(key, secret)


@routes.delete("/v1/workspaces/{workspace_id}/keys/{key_id}")
@operation("Revoke a key immediately", Access.ADMIN, responses={204: None})
async def delete_key(request: web.Request) -> web.Response:
    """Revoke the key; the next request that uses it fails."""
    workspace_id = parse_id("ws", request.match_info["workspace_id"])
    key_id = parse_id("key", request.match_info["key_id"])
    await api_keys.revoke_key(resources_of(request), workspace_id, key_id)
    return web.Response(status=204)
