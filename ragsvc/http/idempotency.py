"""Answers a POST with an Idempotency-Key once: who sends it again gets the same answer, and nothing is done twice.

A call is claimed under a lease before its handler runs. What the handler makes gets the id that the claim names, so
that a repeat after a crash finds it (`operation(again=…)`), even where the crash came between commit and answer.
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

from ragsvc.db import idempotency_keys
from ragsvc.domain.idempotency import Call, Claim, StoredResponse
from ragsvc.domain.ids import new_id
from ragsvc.errors import IdempotencyMismatch, InProgress, InvalidRequest, NotFound, RequestError, TooLarge
from ragsvc.http.auth import workspace_id_of
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
# A process that is silent for so long has died; renewed at a third.
LEASE_S = 15.0
KEPT_HEADERS = ("Content-Type", "Location", "X-Run-Id")
SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a call makes gets this id; a secret that it makes is derived from the seed."""

    resource_id: UUID
    seed: bytes


_CLAIM = web.RequestKey("idempotency_claim", Claim)
_RESERVED = web.RequestKey("idempotency_reserved", Reserved)
_REPLAYED = web.RequestKey("idempotent_replayed", bool)
_DOCUMENT_ID = re.compile(rb"doc_([0-9a-f]{32})")

log = structlog.get_logger(__name__)


@web.middleware
async def respond_once(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have the handler answer a call that is new, and repeat the answer of one that is not."""
    contract = operation_of(request.match_info.handler)
    if contract is None or not is_repeatable(request.method, request.path) or KEY_HEADER not in request.headers:
        return await handler(request)
    check_access(request, contract)
    call = await _read_call(request)
    claimed = await _claim(request, call)
    if isinstance(claimed, Claim):
        return await _answer(request, handler, contract, claimed)
    return await _repeat(request, contract, call, claimed)


def resource_id_of(request: web.Request) -> UUID:
    """Return the id of what the request makes: a new one, or the call's, so that a repeat finds what was made."""
    reserved = request.get(_RESERVED)
    return reserved.resource_id if reserved else new_id()


def reserve_anew(request: web.Request) -> None:
    """Give what the request makes another id: what had the call's was given up before anybody was told of it."""
    request[_RESERVED] = Reserved(new_id(), seed_of(request))


def seed_of(request: web.Request) -> bytes:
    """Return the random bytes behind a secret that the request makes; a repeat of the call gets the same."""
    reserved = request.get(_RESERVED)
    return reserved.seed if reserved else secrets.token_bytes(SEED_BYTES)


async def bind_form(request: web.Request, body_hash: bytes) -> None:
    """Say which form a call has, once it has been read and before anything is made of it.

    Raises:
        IdempotencyMismatch: the same key came with another form before.
        InProgress: another process answers the call meanwhile.
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
    """Say that an answer is a repeated one, and keep that a stream began; runs just before the headers are sent."""
    if request.get(_REPLAYED):
        response.headers[REPLAYED_HEADER] = "true"
    claim = request.get(_CLAIM)
    if claim is not None and not isinstance(response, web.Response):
        # Its events are kept elsewhere, and who lost the stream need not wait until this process has noticed.
        await _keep(request, claim, status=response.status, headers={}, body=None)


async def _read_call(request: web.Request) -> Call:
    key = request.headers[KEY_HEADER]
    if not 1 <= len(key) <= MAX_KEY_CHARS or not (key.isascii() and key.isprintable()):
        raise InvalidRequest(fields={KEY_HEADER: f"has 1 to {MAX_KEY_CHARS} printable characters"})
    # A form's file passes through once: what it holds is known at its end.
    body_hash = None if request.content_type.startswith("multipart/") else hashlib.sha256(await request.read()).digest()
    call_hash = hashlib.sha256(f"{request.method} {request.path_qs}".encode()).digest()
    return Call(workspace_id_of(request), key, call_hash, body_hash)


async def _claim(request: web.Request, call: Call) -> Claim | StoredResponse:
    async with resources_of(request).pool.acquire() as conn:
        while True:
            claim = await idempotency_keys.claim_call(
                conn,
                call,
                token=new_id(),
                resource_id=new_id(),
                seed=secrets.token_bytes(SEED_BYTES),
                lease_s=LEASE_S,
            )
            kept = claim or await idempotency_keys.select_stored_response(conn, call)
            # Between the two statements a refused call may have been forgotten.
            if kept is not None:
                return kept


async def _answer(request: web.Request, handler: Handler, contract: Operation, claim: Claim) -> web.StreamResponse:
    async with _held(request, claim):
        request[_CLAIM] = claim
        request[_RESERVED] = Reserved(claim.resource_id, claim.seed)
        response = await _find_made(request, contract, claim) or await handler(request)
        if isinstance(response, web.Response):
            body = response.body if isinstance(response.body, bytes) and not contract.shows_secret else None
            headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
            await _keep(request, claim, status=response.status, headers=headers, body=body)
        return response


async def _find_made(request: web.Request, contract: Operation, claim: Claim) -> web.StreamResponse | None:
    """Answer from what somebody made who died before the answer; where nothing was made, the form is yet to be read."""
    if not claim.is_taken_over or contract.again is None:
        return None
    made = await contract.again(request, claim.resource_id)
    if made is not None and claim.call.body_hash is None:
        await bind_form(request, await _hash_form(request, contract))
    return made


@asynccontextmanager
async def _held(request: web.Request, claim: Claim) -> AsyncIterator[None]:
    """Keep the call's lease; afterwards a refused call is forgotten, and one that failed may be tried again at once."""
    pool = resources_of(request).pool

    async def renew() -> bool:
        async with pool.acquire() as conn:
            await idempotency_keys.renew_call(conn, claim, lease_s=LEASE_S)
        return True

    # Without a limit: should another process take over meanwhile, the reserved ids keep its response the same.
    renewal = keep_renewed(renew, interval_s=LEASE_S / 3, event="idempotency_lease_not_renewed")
    try:
        async with in_background(renewal):
            yield
    except BaseException as error:
        is_refused = isinstance(error, RequestError) and PROBLEMS[error.code].status < SERVER_ERRORS
        # Of one that was taken over nobody knows what was done before.
        forget = idempotency_keys.delete_call if is_refused and not claim.is_taken_over else idempotency_keys.end_lease
        async with pool.acquire() as conn:
            await forget(conn, claim)
        raise


async def _repeat(request: web.Request, contract: Operation, call: Call, kept: StoredResponse) -> web.StreamResponse:
    if kept.call_hash != call.call_hash:
        raise IdempotencyMismatch
    if kept.status is None and (call.body_hash is None or kept.body_hash in {None, call.body_hash}):
        raise InProgress
    body_hash = call.body_hash or await _hash_form(request, contract)
    if kept.body_hash != body_hash:
        raise IdempotencyMismatch
    request[_REPLAYED] = True
    if kept.body is not None:
        return web.Response(body=kept.body, status=kept.status or 200, headers=kept.headers)
    request[_RESERVED] = Reserved(kept.resource_id, kept.seed)
    again = await contract.again(request, kept.resource_id) if contract.again else None
    if again is None:
        raise NotFound("What this request was answered has been deleted.")
    return again


async def _hash_form(request: web.Request, contract: Operation) -> bytes:
    """Read a form to its end, only to see whether it is the same as before."""
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
            raise TooLarge(f"A file in one request may have {limit_bytes} bytes.")
    return form.content_hash(digest.digest())


async def _keep(
    request: web.Request, claim: Claim, *, status: int, headers: dict[str, str], body: bytes | None
) -> None:
    ids = {UUID(hex=match.decode()) for match in _DOCUMENT_ID.findall(body or b"")}
    async with resources_of(request).pool.acquire() as conn:
        await idempotency_keys.store_response(
            conn, claim, status=status, headers=headers, body=body, document_ids=sorted(ids)
        )
