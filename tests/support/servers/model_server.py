"""A model server with the OpenAI protocol that behaves as a test scripts it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import re
import time
import zlib
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

    from ragsvc.settings.settings import Settings
    from tests.support.servers.servers import Servers

DIMENSIONS = 384
TABLE_VECTORS = np.random.default_rng(1).standard_normal((4096, DIMENSIONS)).astype(np.float32)
TABLE_VECTORS /= np.linalg.norm(TABLE_VECTORS, axis=1, keepdims=True)
TABLE_ENTRIES = [base64.b64encode(vector.tobytes()).decode() for vector in TABLE_VECTORS]
_WORD = re.compile(r"\w+")
_DELTA = re.compile(r"\S+\s*")


@dataclass(frozen=True, slots=True)
class Fail:
    """Respond with an error."""

    status: int = 500
    code: str | None = None
    message: str = "scripted failure"
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Slow:
    """Respond after a delay."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause the response until the test sets `resumed`; a stream pauses after `after_deltas`."""

    after_deltas: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Cut:
    """Drop the connection; a stream is dropped after `after_deltas`."""

    after_deltas: int = 0


@dataclass(frozen=True, slots=True)
class StreamError:
    """Send an error object in the stream, as providers do after the status has been sent."""

    after_deltas: int = 0
    message: str = "scripted failure"


@dataclass(frozen=True, slots=True)
class Reply:
    """Respond with this text instead of `chat_text`."""

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Raw:
    """Send these bytes as the stream."""

    stream: bytes


@dataclass(frozen=True, slots=True)
class Embedded:
    """Respond with these vectors, which can be invalid."""

    vectors: list[list[float]]


@dataclass(frozen=True, slots=True)
class ReportedUsage:
    """Embed as usual and report this usage; None omits the usage."""

    usage: object


Behaviour = Fail | Slow | Pause | Cut | StreamError | Reply | Raw | Embedded | ReportedUsage


@dataclass(slots=True)
class Endpoint:
    """One of the two endpoints: its recorded requests and its scripted behaviour."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requested_at: list[float] = field(default_factory=list)
    scripted: deque[Behaviour] = field(default_factory=deque)
    usual: Behaviour | None = None

    def script(self, *behaviours: Behaviour) -> None:
        """Set the behaviour of the next requests, one item for each request; later ones get the usual behaviour."""
        self.scripted.extend(behaviours)

    def reset(self) -> None:
        """Clear the recorded requests and the script."""
        self.requests.clear()
        self.headers.clear()
        self.requested_at.clear()
        self.scripted.clear()
        self.usual = None

    def next(self) -> Behaviour | None:
        """Return the behaviour for the current request."""
        self.requested_at.append(time.monotonic())
        return self.scripted.popleft() if self.scripted else self.usual


class ScriptedModels:
    """The server; its vectors depend only on words, so texts that share words are similar."""

    def __init__(self, real: Servers | None = None) -> None:
        self.embeddings = Endpoint()
        self.chat = Endpoint()
        self.chat_text = "The scripted model says hello [1]."
        # If set, embeddings come from MiniLM; scripted behaviours still apply.
        self.passes_through = False
        # If set, embeddings are meaningless vectors from a precomputed table, which cost no time.
        self.uses_table = False
        self.url = ""
        self._real = real

    def applied_to(self, settings: Settings) -> Settings:
        """Return settings that use this server for both models."""
        return settings.changed({"openai_base_url": self.url, "chat_model": "scripted", "chat_models": "special"})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ScriptedModels]:
        """Serve on a free port."""
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.embeddings.requests.append(body)
        self.embeddings.headers.append({name.lower(): value for name, value in request.headers.items()})
        behaviour = self.embeddings.next()
        if (failure := await _apply(request, behaviour)) is not None:
            return failure
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if isinstance(behaviour, Embedded):
            vectors = np.array(behaviour.vectors, np.float32)
        elif self.passes_through:
            return await self._pass_through(body)
        elif self.uses_table:
            return _respond(body, [TABLE_ENTRIES[zlib.crc32(text.encode()) % len(TABLE_ENTRIES)] for text in texts])
        else:
            vectors = np.stack([embed_words(text) for text in texts])
        wants_base64 = body.get("encoding_format") == "base64"
        entries = [base64.b64encode(row.tobytes()).decode() if wants_base64 else row.tolist() for row in vectors]
        return _respond(body, entries, reported=behaviour if isinstance(behaviour, ReportedUsage) else None)

    async def _pass_through(self, body: dict[str, Any]) -> web.Response:
        assert self._real is not None
        headers = {"Authorization": f"Bearer {self._real.models_api_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{self._real.models_url}/embeddings", json=body) as response,
        ):
            return web.Response(body=await response.read(), status=response.status, content_type="application/json")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.chat.requests.append(body)
        self.chat.headers.append({name.lower(): value for name, value in request.headers.items()})
        behaviour = self.chat.next()
        streams = bool(body.get("stream"))
        in_stream = streams and isinstance(behaviour, (Pause, Cut)) and behaviour.after_deltas > 0
        if not in_stream and (failure := await _apply(request, behaviour)) is not None:
            return failure
        reply = behaviour if isinstance(behaviour, Reply) else Reply(self.chat_text)
        if isinstance(behaviour, Raw):
            return web.Response(body=behaviour.stream, content_type="text/event-stream")
        if streams:
            return await _stream(request, body, reply=reply, behaviour=behaviour)
        message = {"role": "assistant", "content": reply.text}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
        return web.json_response(_envelope(body, "chat.completion") | {"choices": [choice], "usage": _usage(reply)})


def embed_words(text: str) -> NDArray[np.float32]:
    """Return a unit vector, shape (384,): the normalised sum of one fixed random direction per word."""
    words = _WORD.findall(text.lower()) or [text]
    seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:8]) for word in words]
    total = np.sum([np.random.default_rng(seed).standard_normal(DIMENSIONS) for seed in seeds], axis=0)
    unit: NDArray[np.float32] = (total / np.linalg.norm(total)).astype(np.float32)
    return unit


def _respond(body: dict[str, Any], embeddings: list[Any], *, reported: ReportedUsage | None = None) -> web.Response:
    data = [
        {"object": "embedding", "index": index, "embedding": embedding} for index, embedding in enumerate(embeddings)
    ]
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    tokens = sum(map(len, texts)) // 4
    usage = reported.usage if reported else {"prompt_tokens": tokens, "total_tokens": tokens}
    content = {"object": "list", "data": data, "model": body["model"]} | ({"usage": usage} if usage is not None else {})
    return web.Response(body=orjson.dumps(content), content_type="application/json")


async def _apply(request: web.Request, behaviour: Behaviour | None) -> web.Response | None:
    """Apply the behaviour before the response, or return the response that replaces it."""
    match behaviour:
        case Slow():
            await asyncio.sleep(behaviour.seconds)
        case Pause():
            behaviour.reached.set()
            await behaviour.resumed.wait()
        case Cut():
            _drop(request)
            return web.Response()
        case Fail():
            error = {"message": behaviour.message, "type": "scripted", "param": None, "code": behaviour.code}
            headers = {"X-Request-Id": "req-scripted"}
            if behaviour.retry_after_s is not None:
                # A provider can send anything, and only this header takes a number that is infinite.
                name = "retry-after-ms" if math.isinf(behaviour.retry_after_s) else "Retry-After"
                headers[name] = str(behaviour.retry_after_s)
            return web.json_response({"error": error}, status=behaviour.status, headers=headers)
        case _:
            pass
    return None


async def _stream(
    request: web.Request, body: dict[str, Any], *, reply: Reply, behaviour: Behaviour | None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    envelope = _envelope(body, "chat.completion.chunk")
    for sent, delta in enumerate(_DELTA.findall(reply.text)):
        if isinstance(behaviour, (Pause, Cut, StreamError)) and sent == behaviour.after_deltas:
            if isinstance(behaviour, StreamError):
                await _send(response, {"error": {"message": behaviour.message, "type": "server_error"}})
                return response
            if await _apply(request, behaviour) is not None:
                return response
        choice = {"index": 0, "delta": {"role": "assistant", "content": delta}, "finish_reason": None}
        await _send(response, envelope | {"choices": [choice]})
    await _send(response, envelope | {"choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        await _send(response, envelope | {"choices": [], "usage": _usage(reply)})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


def _drop(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _envelope(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-scripted", "object": kind, "created": 0, "model": body["model"]}


def _usage(reply: Reply) -> dict[str, int]:
    completion = len(_DELTA.findall(reply.text))
    return {"prompt_tokens": 7, "completion_tokens": completion, "total_tokens": 7 + completion}
