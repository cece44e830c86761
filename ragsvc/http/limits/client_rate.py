"""Enforces the rate limit of every key, and reports the remaining requests in RateLimit-* headers."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from aiohttp import web

from ragsvc.errors.requests import RateLimited
from ragsvc.http.auth import rated_id_of
from ragsvc.queue.client_rate import ClientRates, Rate

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RATES = web.AppKey("rates", ClientRates)
_RATE = web.RequestKey("rate", Rate)


@web.middleware
async def limit_rate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request against its key's rate limit; the admin key has none.

    Raises:
        RateLimited: the key has used up its requests for now.
    """
    rates = request.app[RATES]
    key_id = rated_id_of(request)
    if key_id is not None and rates.is_on:
        rate = request[_RATE] = await rates.take(key_id)
        if rate.wait_s:
            raise RateLimited
    return await handler(request)


async def add_rate_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the RateLimit-* headers to the response of a counted request; runs just before its headers are sent.

    Source: draft-ietf-httpapi-ratelimit-headers-07.
    """
    if (rate := request.get(_RATE)) is None:
        return
    response.headers["RateLimit-Limit"] = str(rate.limit)
    response.headers["RateLimit-Remaining"] = str(rate.remaining)
    response.headers["RateLimit-Reset"] = str(math.ceil(rate.full_in_s))
    if rate.wait_s:
        response.headers["Retry-After"] = str(math.ceil(rate.wait_s))
