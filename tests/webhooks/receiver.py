"""A receiver of webhooks: a real server, which answers as the test says."""

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
    """One request."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return orjson.loads(self.body)

    def is_signed_by(self, webhook: Webhook) -> bool:
        """Verify as https://www.standardwebhooks.com says: the id, the time and the body, by HMAC-SHA256."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(webhook.secret, signed, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"] == f"v1,{expected}"


@dataclass(slots=True)
class Receiver:
    """Keeps what comes; answers the statuses of `script` in turn, then 204."""

    received: list[Received] = field(default_factory=list)
    script: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    server: TestServer = field(init=False)

    def __post_init__(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._receive)
        self.server = TestServer(app, host="127.0.0.1")

    @property
    def origin(self) -> str:
        """Where it is."""
        return str(self.server.make_url("/").origin())

    def will_answer(self, *statuses: int, headers: Mapping[str, str] | None = None) -> None:
        """Answer the next requests so."""
        self.script += [(status, headers or {}) for status in statuses]

    @property
    def told(self) -> Sequence[str]:
        """The events that came."""
        return [one.json["type"] for one in self.received]

    async def _receive(self, request: web.Request) -> web.Response:
        self.received.append(Received(dict(request.headers), await request.read()))
        status, headers = self.script.pop(0) if self.script else (204, {})
        return web.Response(status=status, headers=headers)
