"""A small client of the ragsvc API: JSON in and out, each error as one line."""

from __future__ import annotations

import asyncio
import io
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import aiohttp
import orjson
from yarl import URL

from ragsvc.cli.client.target import find_target, say_target
from ragsvc.cli.exits import CommandFailed, Unreachable
from ragsvc.errors.base import describe_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ragsvc.cli.client.target import Target

CONNECT_TIMEOUT_S = 10.0
# Long, because a response may have to wait for a model.
TIMEOUT = aiohttp.ClientTimeout(total=120.0, sock_connect=CONNECT_TIMEOUT_S)
# The service sends a ping every 15 s.
STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=45.0)
UPLOAD_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
AWAY = frozenset({502, 503, 504})
NOT_FOUND = 404
TOO_MANY_REQUESTS = 429
# How long to wait, in total, when the service responds 429 with Retry-After. Retrying is safe, because such a request
# was not executed.
PATIENCE_S = 60.0
SUCCESS = range(200, 300)
SERVER_ERROR = 500
PAGE = 100

JsonObject = dict[str, Any]


class Refused(CommandFailed):
    """The service returned an error."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Client:
    """Sends requests to one service; raises `Refused` for its errors and `Unreachable` when it does not respond."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, key: str) -> None:
        self.base_url = base_url
        self._session = session
        self._authorization = f"Bearer {key}"

    async def get(self, path: str, *, params: Mapping[str, object] | None = None) -> JsonObject:
        """GET and return the JSON response; parameters that are None are omitted."""
        return await self.request("GET", path, params=params)

    async def post(self, path: str, *, body: object = None) -> JsonObject:
        """POST and return the JSON response."""
        return await self.request("POST", path, body=body)

    async def delete(self, path: str, *, params: Mapping[str, object] | None = None) -> JsonObject:
        """DELETE and return the JSON response."""
        return await self.request("DELETE", path, params=params)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        body: object = None,
    ) -> JsonObject:
        """Send a request and return the JSON response."""
        async with self.open(method, path, params=params, body=body) as response:
            return await read_json(response)

    async def upload(self, path: str, make_form: Callable[[], aiohttp.FormData]) -> JsonObject:
        """POST a form and return the JSON response; the form is rebuilt for each retry."""
        async with self.open("POST", path, make_data=make_form, timeout=UPLOAD_TIMEOUT) as response:
            return await read_json(response)

    async def put(self, path: str, data: bytes, *, headers: Mapping[str, str]) -> JsonObject:
        """PUT bytes and return the JSON response."""
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
        """Send a request and yield the response if it is not an error; its body has not been read yet."""
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
        """Return all items of a list, page by page."""
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
    """Yield a client of the given service, or of the one in the environment.

    Raises:
        BadUsage: the required key is not set.
    """
    if target is None:
        target = find_target()
        # Operators' commands always say where they act; others only if nothing near names the service.
        if admin or target.origin.startswith("ragsvc "):
            say_target(target.base_url, target.origin)
    key = target.key(admin=admin)
    async with aiohttp.ClientSession() as session:
        yield Client(session, target.base_url, key)


def segment(text: str) -> str:
    """Return a user's input, quoted as a single path segment."""
    return quote(text, safe="")


async def read_json(response: aiohttp.ClientResponse) -> JsonObject:
    """Return a response's JSON object; an empty body counts as an empty object."""
    raw = await response.read()
    try:
        value = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        raise _stranger(response) from None
    if not isinstance(value, dict):
        raise _stranger(response)
    return value


async def _refuse(response: aiohttp.ClientResponse) -> None:
    """Raise the problem that an error response describes."""
    if response.status in SUCCESS:
        return
    raw = await response.read()
    try:
        problem = orjson.loads(raw)
        message, code = f"{problem['detail']} ({problem['code']})", str(problem["code"])
        if response.status == NOT_FOUND:
            # Problems of unknown resources do not repeat the id.
            message = f"{unquote(response.url.path.rpartition('/v1/')[2])}: {message}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise _stranger(response) from None
    if response.status in AWAY:
        raise Unreachable(message)
    if response.status >= SERVER_ERROR:
        message = f"{message}, request {problem.get('request_id')}"
    raise Refused(message, status=response.status, code=code)


def _asked_to_wait_s(response: aiohttp.ClientResponse) -> float | None:
    """Return the Retry-After of a refusal if the same request can be sent again, else None."""
    after = response.headers.get("Retry-After", "")
    return float(after) if response.status == TOO_MANY_REQUESTS and after.isdecimal() else None


def _stranger(response: aiohttp.ClientResponse) -> CommandFailed:
    message = f"{response.url.origin()} returned {response.status} without a ragsvc error: is RAGSVC_URL correct?"
    return Unreachable(message) if response.status in AWAY else CommandFailed(message)


def _dump(body: object) -> bytes | None:
    return None if body is None else orjson.dumps(body)


def _parameter(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorSSLError():
            return "it does not speak TLS there: is it http:// instead of https://?"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno or 0
            return os.strerror(number) if number > 0 else str(error.os_error.strerror or error.os_error)
        case TimeoutError():
            return "no response in time"
        case _:
            return describe_error(error)
