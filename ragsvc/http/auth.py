"""Authenticates callers, and checks what their keys give access to."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import structlog
from aiohttp import web

from ragsvc.db.api_keys import select_key_owner
from ragsvc.db.upload_tokens import select_token_owner
from ragsvc.domain.audit import Actor, ActorKind, acting
from ragsvc.errors.requests import Forbidden, Unauthorized
from ragsvc.http.key_uses import KEY_USES
from ragsvc.http.state import enter_workspace, request_id_of, resources_of
from ragsvc.shares import Holder, holder_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragsvc.domain.uploads import UploadToken
    from ragsvc.domain.workspaces import ApiKey, Scope, Workspace

KEY_PREFIX = "rag_"
TOKEN_PREFIX = "upt_"  # noqa: S105 - not a secret, but the prefix of all tokens
SHOWN_KEY_CHARS = 12
# Request headers are cut to this length in the audit trail.
MAX_HEADER_CHARS = 300
# Stands in for a workspace id if the caller uses the admin key.
OPERATOR_ID = UUID(int=0)


class Access(StrEnum):
    """Who can call a route, apart from workspace keys that have the required scope."""

    PUBLIC = "public"
    ADMIN = "admin"
    UPLOAD_TOKEN = "upload_token"  # noqa: S105 - the name of a kind of access


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated workspace key, and its workspace."""

    workspace: Workspace
    key: ApiKey


@dataclass(frozen=True, slots=True)
class Uploader:
    """An authenticated upload token, and its workspace."""

    workspace: Workspace
    token: UploadToken


_UPLOADER = web.RequestKey("uploader", Uploader)
_CALLER = web.RequestKey("caller", Caller)
_IS_ADMIN = web.RequestKey("is_admin", bool)


def derive_secret(request: web.Request, prefix: str, seed: bytes) -> str:
    """Return a 256-bit secret. It need not be stored, because a repeated request derives the same one.

    The secret also depends on the caller's key, so the seed in the database is not enough to derive it.
    """
    digest = hmac.digest(_read_bearer(request).encode("utf-8", "surrogateescape"), seed, "sha256")
    return prefix + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def hash_key(key: str) -> bytes:
    """Return the SHA-256 hash that is stored in place of the key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


async def authenticate(request: web.Request) -> None:
    """Authenticate the request by its key, so that `require` and `require_admin` can check it.

    Raises:
        Unauthorized: the key is missing, unknown, expired or revoked.
    """
    digest = hash_key(_read_bearer(request))
    resources = resources_of(request)
    if (operator := _find_operator(resources.settings.api.admin_keys, digest)) is not None:
        request[_IS_ADMIN] = True
        acting.set(_actor(request, ActorKind.ADMIN, operator))
        structlog.contextvars.bind_contextvars(operator=operator)
        return
    async with resources.pool.acquire_for_lookup() as lookup:
        owner = await select_key_owner(lookup, digest)
    if owner is None or not hmac.compare_digest(owner.key_hash, digest):
        raise Unauthorized
    enter_workspace(request, owner.workspace.id)
    request.app[KEY_USES].record(owner)
    request[_CALLER] = Caller(workspace=owner.workspace, key=owner.key)
    holder_now.set(Holder(owner.workspace.id, owner.key.id))
    acting.set(_actor(request, ActorKind.KEY, owner.key.name, key_id=owner.key.id))
    structlog.contextvars.bind_contextvars(workspace_id=owner.workspace.id, key_id=owner.key.id)


def _find_operator(keys: Mapping[str, str], digest: bytes) -> str | None:
    """Return the name of the operator whose key has this hash; every key is compared, so the time tells nothing."""
    found = [name for name, key in keys.items() if hmac.compare_digest(digest, hash_key(key))]
    return found[0] if found else None


async def authenticate_upload_token(request: web.Request) -> None:
    """Authenticate the request by the upload token in its path, so that `uploader_of` can return the token.

    Raises:
        Unauthorized: the token is unknown or expired, or the key that created it was revoked.
    """
    # Take the token from the path: a request with an unsupported method matches no route, but must still get a 405.
    digest = hash_key(request.path.split("/")[2])
    async with resources_of(request).pool.acquire_for_lookup() as lookup:
        found = await select_token_owner(lookup, digest)
    if found is None:
        raise Unauthorized("The upload token is unknown or expired, or its key was revoked.")
    enter_workspace(request, found[0].id)
    request[_UPLOADER] = Uploader(*found)
    holder_now.set(Holder(found[0].id, found[1].key_id))
    structlog.contextvars.bind_contextvars(workspace_id=found[0].id, key_id=found[1].key_id)


def uploader_of(request: web.Request) -> Uploader:
    """Return the request's upload token and the workspace that the token belongs to.

    Raises:
        Unauthorized: the request was not authenticated by an upload token.
    """
    uploader: Uploader | None = request.get(_UPLOADER)
    if uploader is None:
        raise Unauthorized
    return uploader


def rated_id_of(request: web.Request) -> UUID | None:
    """Return the id whose rate limit applies: of the key, or of all its tokens; None for the admin key or no key."""
    caller: Caller | None = request.get(_CALLER)
    if caller is not None:
        return caller.key.id
    uploader: Uploader | None = request.get(_UPLOADER)
    # All tokens of a key have one rate; otherwise, a key could multiply its own by creating tokens.
    return None if uploader is None else uuid5(uploader.token.key_id, "upload tokens")


def caller_of(request: web.Request) -> Caller:
    """Return the calling key and its workspace; the key's scopes have already been checked for the route.

    Raises:
        Unauthorized: the route is public and the request has no key.
        Forbidden: the caller used the admin key, which has no workspace.
    """
    caller: Caller | None = request.get(_CALLER)
    if caller is not None:
        return caller
    if request.get(_IS_ADMIN):
        raise Forbidden("The admin key has no workspace: use a workspace key here.")
    raise Unauthorized


def workspace_id_of(request: web.Request) -> UUID:
    """Return the id of the caller's workspace, or OPERATOR_ID for the admin key; raises like `caller_of`."""
    return OPERATOR_ID if request.get(_IS_ADMIN) else caller_of(request).workspace.id


def require(request: web.Request, *scopes: Scope) -> Caller:
    """Return the caller if its key has at least one of the scopes; raises like `caller_of`.

    Raises:
        Forbidden: the key has none of them.
    """
    caller = caller_of(request)
    if not set(scopes) & set(caller.key.scopes):
        raise Forbidden(f"This key lacks the scope {' or '.join(scopes)}.")
    return caller


def is_admin(request: web.Request) -> bool:
    """Return whether the request was authenticated with the admin key."""
    return bool(request.get(_IS_ADMIN))


def require_admin(request: web.Request) -> None:
    """Check that the request was authenticated with the admin key.

    Raises:
        Forbidden: it was authenticated with a workspace key, or not at all.
    """
    if not is_admin(request):
        raise Forbidden("This needs the admin key; the keys of workspaces cannot do it.")


def _actor(request: web.Request, kind: ActorKind, name: str, *, key_id: UUID | None = None) -> Actor:
    return Actor(
        kind=kind,
        name=name,
        id=key_id,
        request_id=request_id_of(request),
        ip=request.remote,
        forwarded_for=_read_header(request, "X-Forwarded-For"),
        user_agent=_read_header(request, "User-Agent"),
    )


def _read_header(request: web.Request, name: str) -> str | None:
    """Return the beginning of a header, with undecodable bytes replaced."""
    value = request.headers.get(name)
    return value[:MAX_HEADER_CHARS].encode("utf-8", "replace").decode() if value else None


def _read_bearer(request: web.Request) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized
    return key
