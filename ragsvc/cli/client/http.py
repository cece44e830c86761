"""A small HTTP client for our own API: JSON in and out, and every refusal as one clear line."""

from __future__ import annotations

import asyncio
import io
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from ragsvc.cli.client.target import find_target
from ragsvc.cli.exits import CommandFailed, Unreachable
from ragsvc.errors import describe_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ragsvc.cli.client.target import Target

CONNECT_TIMEOUT_S = 10.0
# An answer may take its time (a model is asked), a silent connection may not.
TIMEOUT = aiohttp.ClientTimeout(total=120.0, sock_connect=CONNECT_TIMEOUT_S)
# Pings come every 15 s.
STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=45.0)
UPLOAD_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
AWAY = frozenset({502, 503, 504})
TOO_MANY_REQUESTS = 429
# A service that says when to come again is obeyed for so long; nothing was done of a request that it refused so.
PATIENCE_S = 60.0
SUCCESS = range(200, 300)
SERVER_ERROR = 500
PAGE = 100

JsonObject = dict[str, Any]


class Refused(CommandFailed):
    """The service answered with an error."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Client:
    """Requests to one service; they raise `Refused` for its errors and `Unreachable` when it is away."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, key: str) -> None:
        self.base_url = base_url
        self._session = session
        self._authorization = f"Bearer {key}"

    async def get(self, path: str, *, params: Mapping[str, object] | None = None) -> JsonObject:
        """Return the JSON that a GET answers; parameters that are None are left out."""
        return await self.request("GET", path, params=params)

    async def post(self, path: str, *, body: object = None) -> JsonObject:
        """Return the JSON that a POST answers."""
        return await self.request("POST", path, body=body)

    async def delete(self, path: str, *, params: Mapping[str, object] | None = None) -> JsonObject:
        """Return the JSON that a DELETE answers."""
        return await self.request("DELETE", path, params=params)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        body: object = None,
    ) -> JsonObject:
        """Return the JSON that a request answers."""
        async with self.open(method, path, params=params, body=body) as response:
            return await read_json(response)

    async def upload(self, path: str, make_form: Callable[[], aiohttp.FormData]) -> JsonObject:
        """Return the JSON that posting a form answers; it is made anew each time it has to be sent."""
        async with self.open("POST", path, make_data=make_form, timeout=UPLOAD_TIMEOUT) as response:
            return await read_json(response)

    async def put(self, path: str, data: bytes, *, headers: Mapping[str, str]) -> JsonObject:
        """Return the JSON that putting bytes answers."""
        async with self.open(
            "PUT", path, make_data=lambda: io.BytesIO(data), headers=headers, timeout=UPLOAD_TIMEOUT
        ) as response:
            return await read_json(response)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        body: object = None,
        make_data: Callable[[], aiohttp.FormData | io.BytesIO] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield its answer once it is known to be no error; the body is not read yet."""
        sent = {"Authorization": self._authorization, "Accept": "application/json", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        deadline = time.monotonic() + PATIENCE_S
        try:
            while True:
                async with self._session.request(
                    method,
                    URL(f"{self.base_url}{path}", encoded=True),
                    params={name: _parameter(value) for name, value in (params or {}).items() if value is not None},
                    data=make_data() if make_data else _dump(body),
                    headers=sent,
                    timeout=timeout,
                    allow_redirects=False,
                ) as response:
                    wait_s = _asked_to_wait_s(response)
                    if wait_s is None or time.monotonic() + wait_s > deadline:
                        await _refuse(response)
                        yield response
                        return
                await asyncio.sleep(wait_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(f"{self.base_url} cannot be reached: {_reason(error)}") from error

    async def pages(self, path: str, *, params: Mapping[str, object] | None = None) -> list[JsonObject]:
        """Return a whole list, page by page."""
        found: list[JsonObject] = []
        cursor: str | None = None
        while True:
            page = await self.get(path, params={**(params or {}), "limit": PAGE, "cursor": cursor})
            found.extend(page["data"])
            cursor = page["next_cursor"]
            if cursor is None:
                return found


@asynccontextmanager
async def open_client(target: Target | None = None, *, admin: bool = False) -> AsyncIterator[Client]:
    """Yield a client of the service, by default of the one that the environment names.

    Raises:
        BadUsage: the key that it needs is not set.
    """
    target = target or find_target()
    key = target.key(admin=admin)
    async with aiohttp.ClientSession() as session:
        yield Client(session, target.base_url, key)


def segment(text: str) -> str:
    """Return what a user gave as an id as one segment of a path, whatever stands in it."""
    return quote(text, safe="")


async def read_json(response: aiohttp.ClientResponse) -> JsonObject:
    """Return an answer's JSON object; that of an empty body is empty."""
    raw = await response.read()
    try:
        value = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        raise _stranger(response) from None
    if not isinstance(value, dict):
        raise _stranger(response)
    return value


async def _refuse(response: aiohttp.ClientResponse) -> None:
    """Raise the problem that an answer tells of."""
    if response.status in SUCCESS:
        return
    raw = await response.read()
    try:
        problem = orjson.loads(raw)
        message, code = f"{problem['detail']} ({problem['code']})", str(problem["code"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise _stranger(response) from None
    if response.status in AWAY:
        raise Unreachable(message)
    if response.status >= SERVER_ERROR:
        message = f"{message}, request {problem.get('request_id')}"
    raise Refused(message, status=response.status, code=code)


def _asked_to_wait_s(response: aiohttp.ClientResponse) -> float | None:
    """Return how long the service wants to be left alone, when that is all that was wrong."""
    after = response.headers.get("Retry-After", "")
    return float(after) if response.status == TOO_MANY_REQUESTS and after.isdecimal() else None


def _stranger(response: aiohttp.ClientResponse) -> CommandFailed:
    message = f"{response.url.origin()} answered {response.status} without a word of ours: is RAGSVC_URL right?"
    return Unreachable(message) if response.status in AWAY else CommandFailed(message)


def _dump(body: object) -> bytes | None:
    return None if body is None else orjson.dumps(body)


def _parameter(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno or 0
            return os.strerror(number) if number > 0 else str(error.os_error.strerror or error.os_error)
        case TimeoutError():
            return "no answer in time"
        case _:
            return describe_error(error)
