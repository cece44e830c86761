"""Upload tokens, with which web pages upload directly: /v1/upload-tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import NotFound
from ragsvc.http.auth import TOKEN_PREFIX, caller_of, derive_secret, hash_key
from ragsvc.http.contract.bodies import Body, read_body
from ragsvc.http.contract.ids import CollectionId, ShownTime
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response, render_time
from ragsvc.http.idempotency import resource_id_of, seed_of
from ragsvc.http.state import public_url_of, resources_of
from ragsvc.uploads import tokens

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.uploads import UploadToken

routes = web.RouteTableDef()

DEFAULT_TTL_S = 3600
MAX_TTL_S = 24 * 3600


class UploadTokenBody(Body):
    """What the token permits: files of at most `max_bytes`, into one collection (the default collection if omitted)."""

    collection_id: CollectionId | None = None
    max_bytes: Annotated[int, Field(ge=1)] | None = None
    ttl_s: Annotated[int, Field(ge=1, le=MAX_TTL_S)] = DEFAULT_TTL_S


class UploadTokenView(TypedDict):
    """A new upload token, which is shown only once, and the URL that Uppy uses as its Companion."""

    token: str
    companion_url: str
    expires_at: ShownTime


async def _respond_again(request: web.Request, token_id: UUID) -> web.Response | None:
    secret = derive_secret(request, TOKEN_PREFIX, seed_of(request))
    token = await tokens.find_token_by_hash(resources_of(request), hash_key(secret))
    return _show(request, token, secret) if token and token.id == token_id else None


def _show(request: web.Request, token: UploadToken, secret: str) -> web.Response:
    view = {
        "token": secret,
        "companion_url": f"{public_url_of(request)}/companion/{secret}",
        "expires_at": render_time(token.expires_at),
    }
    return json_response(view, status=201)


@routes.post("/v1/upload-tokens")
@operation(
    "Create an upload token",
    Scope.UPLOAD,
    Scope.WRITE,
    body=UploadTokenBody,
    body_optional=True,
    responses={201: UploadTokenView},
    problems=(NotFound,),
    again=_respond_again,
    shows_secret=True,
)
async def create_upload_token(request: web.Request) -> web.Response:
    """Create a token, which is shown only once; it works until it expires or the caller's key is revoked."""
    caller = caller_of(request)
    body = await read_body(request, UploadTokenBody, optional=True)
    secret = derive_secret(request, TOKEN_PREFIX, seed_of(request))
    token = await tokens.create_upload_token(
        resources_of(request),
        caller.workspace.id,
        resource_id_of(request),
        key_id=caller.key.id,
        token_hash=hash_key(secret),
        collection_id=body.collection_id,
        max_bytes=body.max_bytes,
        ttl_s=body.ttl_s,
    )
    return _show(request, token, secret)
