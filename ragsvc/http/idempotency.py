"""Idempotency-Key: a repeated POST gets the response of the first one and has no further effect.

A call is claimed under a lease before its handler runs. The resource that the handler creates gets the id stored in the
claim, so that a repeat finds it (`operation(again=…)`) even if the process died between the commit and the response.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from aiohttp import web

from ragsvc.db import idempotency_keys, workspaces
from ragsvc.domain.idempotency import Call, Claim, StoredResponse
from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import IdempotencyMismatch, InProgress, InvalidRequest, NotFound, RequestError, TooLarge
from ragsvc.http.auth import OPERATOR_ID, workspace_id_of
from ragsvc.http.contract.headers import KEY_HEADER, MAX_KEY_CHARS, REPLAYED_HEADER
from ragsvc.http.contract.multipart import FormReader
from ragsvc.http.contract.operations import check_access, is_repeatable, operation_of
from ragsvc.http.contract.problems import PROBLEMS
from ragsvc.http.state import resources_of
from ragsvc.tasks import in_background, keep_renewed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ragsvc.http.contract.operations import Operation

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SEED_BYTES = 32
# A process that has not renewed its lease for this long is presumed dead; leases are renewed three times as often.
LEASE_S = 15.0
STORED_HEADERS = ("Content-Type", "Location", "X-Run-Id")
SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Reserved:
    """The id of the resource that a call creates, and the seed of its secret if it has one."""

    resource_id: UUID
    seed: bytes


_CLAIM = web.RequestKey("idempotency_claim", Claim)
_RESERVED = web.RequestKey("idempotency_reserved", Reserved)
_REPLAYED = web.RequestKey("idempotent_replayed", bool)
_DOCUMENT_ID = re.compile(rb"doc_([0-9a-f]{32})")

log = structlog.get_logger(__name__)


@web.middleware
async def respond_once(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the handler for a new call, and repeat the response to a known one."""
    contract = operation_of(request.match_info.handler)
    if contract is None or not is_repeatable(request.method, request.path) or KEY_HEADER not in request.headers:
        return await handler(request)
    check_access(request, contract)
    call = await _read_call(request)
    claimed = await _claim(request, call)
    if isinstance(claimed, Claim):
        return await _respond(request, handler, contract, claimed)
    return await _repeat(request, contract, call, claimed)


def resource_id_of(request: web.Request) -> UUID:
    """Return the id for the resource that the request creates: the id in its claim, if any, else a new id."""
    reserved = request.get(_RESERVED)
    return reserved.resource_id if reserved else new_id()


def reserve_anew(request: web.Request) -> None:
    """Reserve another id, because the resource with the first id was discarded before any response returned that id."""
    request[_RESERVED] = Reserved(new_id(), seed_of(request))


def seed_of(request: web.Request) -> bytes:
    """Return the seed of the secret that the request creates; a repeated call gets the same seed."""
    reserved = request.get(_RESERVED)
    return reserved.seed if reserved else secrets.token_bytes(SEED_BYTES)


async def bind_form(request: web.Request, body_hash: bytes) -> None:
    """Store the hash of a call's form once the form has been read, but before the call has any effect.

    Raises:
        IdempotencyMismatch: an earlier request sent another form under the same key.
        InProgress: another process is handling the call.
    """
    claim = request.get(_CLAIM)
    if claim is None:
        return
    async with resources_of(request).pool.acquire() as conn:
        bound = await idempotency_keys.bind_body(conn, claim, body_hash=body_hash)
    if bound is None:
        raise InProgress
    if bound != body_hash:
        raise IdempotencyMismatch


async def mark_streams(request: web.Request, response: web.StreamResponse) -> None:
    """Mark the response if it is a repeat, and store that a stream has started; runs before the headers are sent."""
    if request.get(_REPLAYED):
        response.headers[REPLAYED_HEADER] = "true"
    claim = request.get(_CLAIM)
    if claim is not None and not isinstance(response, web.Response):
        # The events are stored elsewhere, so a client that has lost the stream can resume it at once.
        await _store(request, claim, status=response.status, headers={}, body=None)


async def _read_call(request: web.Request) -> Call:
    key = request.headers[KEY_HEADER]
    if not 1 <= len(key) <= MAX_KEY_CHARS or not (key.isascii() and key.isprintable()):
        raise InvalidRequest(fields={KEY_HEADER: f"must have 1 to {MAX_KEY_CHARS} printable ASCII characters"})
    # A form is streamed, so its hash is known only at its end.
    body_hash = None if request.content_type.startswith("multipart/") else hashlib.sha256(await request.read()).digest()
    call_hash = hashlib.sha256(f"{request.method} {request.path_qs}".encode()).digest()
    return Call(workspace_id_of(request), key, call_hash, body_hash)


async def _claim(request: web.Request, call: Call) -> Claim | StoredResponse:
    async with resources_of(request).pool.acquire() as conn:
        while True:
            async with conn.transaction():
                if call.workspace_id != OPERATOR_ID:
                    await workspaces.pin_workspace(conn, call.workspace_id)
                claim = await idempotency_keys.claim_call(
                    conn,
                    call,
                    token=new_id(),
                    resource_id=new_id(),
                    seed=secrets.token_bytes(SEED_BYTES),
                    lease_s=LEASE_S,
                )
            found = claim or await idempotency_keys.select_stored_response(conn, call)
            # Both return None if a refused call was deleted between the two statements. In that case, claim again.
            if found is not None:
                return found


async def _respond(request: web.Request, handler: Handler, contract: Operation, claim: Claim) -> web.StreamResponse:
    async with _leased(request, claim):
        request[_CLAIM] = claim
        request[_RESERVED] = Reserved(claim.resource_id, claim.seed)
        response = await _rebuild(request, contract, claim) or await handler(request)
        if isinstance(response, web.Response):
            body = response.body if isinstance(response.body, bytes) and not contract.shows_secret else None
            headers = {name: response.headers[name] for name in STORED_HEADERS if name in response.headers}
            await _store(request, claim, status=response.status, headers=headers, body=body)
        return response


async def _rebuild(request: web.Request, contract: Operation, claim: Claim) -> web.StreamResponse | None:
    """Return the rebuilt response if the process that died had already created the resource, else None."""
    if not claim.is_taken_over or contract.again is None:
        return None
    response = await contract.again(request, claim.resource_id)
    if response is not None and claim.call.body_hash is None:
        await bind_form(request, await _hash_form(request, contract))
    return response


@asynccontextmanager
async def _leased(request: web.Request, claim: Claim) -> AsyncIterator[None]:
    """Renew the call's lease. After an error, delete the call if it was refused, else let it be retried at once."""
    pool = resources_of(request).pool

    async def renew() -> bool:
        async with pool.acquire() as conn:
            await idempotency_keys.renew_call(conn, claim, lease_s=LEASE_S)
        return True

    # Without `lease_s`, renewing never stops. That is safe: if another process takes over the call, it gives the same
    # response, because it uses the same reserved id.
    renewal = keep_renewed(renew, interval_s=LEASE_S / 3, event="idempotency_lease_not_renewed")
    try:
        async with in_background(renewal):
            yield
    except BaseException as error:
        is_refused = isinstance(error, RequestError) and PROBLEMS[error.code].status < SERVER_ERRORS
        # A call that was taken over may already have had effects, so it is never deleted.
        finish = idempotency_keys.delete_call if is_refused and not claim.is_taken_over else idempotency_keys.end_lease
        async with pool.acquire() as conn:
            await finish(conn, claim)
        raise


async def _repeat(request: web.Request, contract: Operation, call: Call, stored: StoredResponse) -> web.StreamResponse:
    if stored.call_hash != call.call_hash:
        raise IdempotencyMismatch
    if stored.status is None and (call.body_hash is None or stored.body_hash in {None, call.body_hash}):
        raise InProgress
    body_hash = call.body_hash or await _hash_form(request, contract)
    if stored.body_hash != body_hash:
        raise IdempotencyMismatch
    request[_REPLAYED] = True
    if stored.body is not None:
        return web.Response(body=stored.body, status=stored.status or 200, headers=stored.headers)
    request[_RESERVED] = Reserved(stored.resource_id, stored.seed)
    again = await contract.again(request, stored.resource_id) if contract.again else None
    if again is None:
        raise NotFound("The resource that this request created has been deleted.")
    return again


async def _hash_form(request: web.Request, contract: Operation) -> bytes:
    """Read a form to its end, and return its hash, so that it can be compared with the first request's."""
    if contract.form is None:
        raise IdempotencyMismatch
    limit_bytes = resources_of(request).settings.api.max_document_bytes
    form = FormReader(request, contract.form)
    await form.open_file()
    digest, size_bytes = hashlib.sha256(), 0
    async for block in form.blocks():
        digest.update(block)
        size_bytes += len(block)
        if size_bytes > limit_bytes:
            raise TooLarge(f"A file sent in one request is limited to {limit_bytes} bytes.")
    return form.content_hash(digest.digest())


async def _store(
    request: web.Request, claim: Claim, *, status: int, headers: dict[str, str], body: bytes | None
) -> None:
    is_operator = claim.call.workspace_id == OPERATOR_ID
    ids = set() if is_operator else {UUID(hex=match.decode()) for match in _DOCUMENT_ID.findall(body or b"")}
    async with resources_of(request).pool.acquire() as conn:
        await idempotency_keys.store_response(
            conn, claim, status=status, headers=headers, body=body, document_ids=sorted(ids)
        )
