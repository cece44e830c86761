"""A webhook receiver: a real server with scripted responses."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Received:
    """A request that was received."""

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
    server: TestServer = field(init=False)

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

    async def _receive(self, request: web.Request) -> web.Response:
        self.received.append(Received(dict(request.headers), await request.read()))
        status, headers = self.script.pop(0) if self.script else (204, {})
        return web.Response(status=status, headers=headers)
