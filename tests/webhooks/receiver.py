"""A webhook receiver: a real server with scripted responses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ragsvc.domain.webhooks import Webhook

# Requests to this path get no response until `release` is set.
SLOW_PATH = "/slow"


@dataclass(frozen=True, slots=True)
class Received:
    """A request that was received."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return orjson.loads(self.body)

    def is_signed_by(self, webhook: Webhook) -> bool:
        """Verify the HMAC-SHA256 of id, time and body as https://www.standardwebhooks.com specifies."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(webhook.secret, signed, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"] == f"v1,{expected}"


@dataclass(slots=True)
class Receiver:
    """Records requests; responds with the statuses of `script` in turn, then with 204."""

    received: list[Received] = field(default_factory=list)
    script: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    server: TestServer = field(init=False)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._receive)
        self.server = TestServer(app, host="127.0.0.1")

    @property
    def origin(self) -> str:
        """The server's origin."""
        return str(self.server.make_url("/").origin())

    def respond_with(self, *statuses: int, headers: Mapping[str, str] | None = None) -> None:
        """Script the responses to the next requests."""
        self.script += [(status, headers or {}) for status in statuses]

    @property
    def event_types(self) -> Sequence[str]:
        """The types of the received events, in order."""
        return [one.json["type"] for one in self.received]

    @property
    def paths(self) -> Sequence[str]:
        """The paths of the received requests, in order."""
        return [one.path for one in self.received]

    async def wait_for(self, path: str, *, count: int = 1) -> None:
        """Wait until `count` requests to the path were received."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.paths.count(path) >= count)

    async def _receive(self, request: web.Request) -> web.Response:
        received = Received(request.path, dict(request.headers), await request.read())
        async with self._arrived:
            self.received.append(received)
            self._arrived.notify_all()
        if request.path == SLOW_PATH:
            await self.release.wait()
        status, headers = self.script.pop(0) if self.script else (204, {})
        return web.Response(status=status, headers=headers)
