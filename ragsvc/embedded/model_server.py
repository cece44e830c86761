"""`python -m ragsvc.embedded.model_server`: MiniLM's embeddings and the extractive answerer over the OpenAI wire."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import os
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ragsvc.embedded import extractive
from ragsvc.embedded.minilm import MAX_TOKENS, MiniLM
from ragsvc.embedded.minilm_graph import DIMENSIONS
from ragsvc.embedded.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

EMBEDDING_MODEL = "all-MiniLM-L6-v2"
MODELS = {EMBEDDING_MODEL: "sentence embeddings, 384 dimensions, 256 tokens", extractive.NAME: extractive.LABEL}
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_INPUTS = 2048

PORT = "RAGSVC_MODELS_PORT"
API_KEY = "RAGSVC_MODELS_API_KEY"
CACHE = "RAGSVC_MODELS_CACHE"

MINILM = web.AppKey("MINILM", MiniLM)
KEY = web.AppKey("KEY", str)
routes = web.RouteTableDef()

_WORD_AND_SPACE = re.compile(r"\S+\s*")


class Refused(Exception):
    """What the wire answers with an error object."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Completion:
    """What a chat completion says, and what it cost."""

    id: str
    created: int
    content: str
    usage: dict[str, int]


@routes.get("/health")
async def health(_request: web.Request) -> web.Response:
    """Answer once the model is in memory."""
    return web.json_response({"status": "ok", "models": MODELS})


@routes.get("/v1/models")
async def list_models(_request: web.Request) -> web.Response:
    """List both models; the description says what they are."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "ragsvc", "description": description}
        for name, description in MODELS.items()
    ]
    return web.json_response({"object": "list", "data": data})


@routes.post("/v1/embeddings")
async def create_embeddings(request: web.Request) -> web.Response:
    """Embed a string or a list of strings."""
    body = await _read_body(request, model=EMBEDDING_MODEL)
    texts = _read_input(body.get("input"))
    if body.get("dimensions", DIMENSIONS) != DIMENSIONS:
        raise Refused(f"{EMBEDDING_MODEL} has {DIMENSIONS} dimensions", param="dimensions")
    encoding_format = body.get("encoding_format", "float")
    if encoding_format not in {"float", "base64"}:
        raise Refused("encoding_format is 'float' or 'base64'", param="encoding_format")
    encoded = await request.app[MINILM].encode(texts)
    for place, text in enumerate(encoded):
        if len(text.ids) > MAX_TOKENS:
            raise Refused(
                f"input {place} has {len(text.ids)} tokens, and {EMBEDDING_MODEL} takes {MAX_TOKENS}",
                param="input",
                code="context_length_exceeded",
            )
    vectors = await request.app[MINILM].embed(encoded)
    tokens = sum(len(text.ids) for text in encoded)
    data = [
        {"object": "embedding", "index": place, "embedding": _write_vector(vector, encoding_format=encoding_format)}
        for place, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return web.json_response({"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage})


@routes.post("/v1/chat/completions")
async def create_completion(request: web.Request) -> web.StreamResponse:
    """Answer from the sources in the last user message, as one object or as a stream."""
    body = await _read_body(request, model=extractive.NAME)
    question = _last_user_message(body.get("messages"))
    minilm = request.app[MINILM]

    async def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        # A sentence too long for the model is compared by its beginning; it is quoted whole.
        return await minilm.embed([text.cut(MAX_TOKENS) for text in await minilm.encode(texts)])

    content = await extractive.answer(question, embed)
    sizes = [len(text.ids) for text in await minilm.encode([question, content])]
    usage = {"prompt_tokens": sizes[0], "completion_tokens": sizes[1], "total_tokens": sum(sizes)}
    completion = Completion(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), content, usage)
    if body.get("stream"):
        options = body.get("stream_options")
        wanted = isinstance(options, dict) and bool(options.get("include_usage"))
        return await _stream(request, completion, include_usage=wanted)
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return web.json_response(_envelope(completion, "chat.completion") | {"choices": [choice], "usage": usage})


async def _stream(request: web.Request, completion: Completion, *, include_usage: bool) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in _WORD_AND_SPACE.findall(completion.content)]
    choices: list[dict[str, object]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    chunk = _envelope(completion, "chat.completion.chunk") | ({"usage": None} if include_usage else {})
    for choice in choices:
        await _send(response, chunk | {"choices": [choice]})
    if include_usage:
        await _send(response, chunk | {"choices": [], "usage": completion.usage})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, event: dict[str, object]) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


def _envelope(completion: Completion, kind: str) -> dict[str, object]:
    return {"id": completion.id, "object": kind, "created": completion.created, "model": extractive.NAME}


async def _read_body(request: web.Request, *, model: str) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise Refused("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refused("the body is not a JSON object")
    if body.get("model") != model:
        raise Refused(
            f"there is no model {body.get('model')!r} here, but {model}",
            status=404,
            param="model",
            code="model_not_found",
        )
    return body


def _read_input(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refused("input is a string or a list of strings, none of them empty", param="input")
    if len(texts) > MAX_INPUTS:
        raise Refused(f"input has {len(texts)} strings, and {MAX_INPUTS} is the limit", param="input")
    return texts


def _last_user_message(messages: object) -> str:
    """Return its text, also where that comes in parts."""
    if not isinstance(messages, list):
        raise Refused("messages is a list", param="messages")
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
            return str(content)
    raise Refused("messages has no message of the user", param="messages")


def _write_vector(vector: NDArray[np.float32], *, encoding_format: str) -> str | list[float]:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        if request.path != "/health":
            _check_key(request)
        return await handler(request)
    except Refused as refused:
        return _error(str(refused), status=refused.status, param=refused.param, code=refused.code)
    except web.HTTPException as error:
        return _error(error.reason, status=error.status)


def _check_key(request: web.Request) -> None:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), request.app[KEY].encode()):
        raise Refused("the API key is wrong", status=401, code="invalid_api_key")


def _error(message: str, *, status: int, param: str | None = None, code: str | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    # The SDKs repeat a 409, 429 or 5xx by themselves; a refusal stays one.
    return web.json_response({"error": error}, status=status, headers={"x-should-retry": "false"})


def create_app(cache: Path, *, api_key: str) -> web.Application:
    """Return the server; `cache` holds the graph."""

    async def load_model(app: web.Application) -> AsyncIterator[None]:
        app[MINILM] = MiniLM(cache)
        yield
        app[MINILM].close()

    app = web.Application(middlewares=[_answer_errors], client_max_size=MAX_BODY_BYTES)
    app[KEY] = api_key
    app.cleanup_ctx.append(load_model)
    app.add_routes(routes)
    return app


def main() -> None:
    """Serve as the environment says."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    app = create_app(Path(os.environ[CACHE]), api_key=os.environ[API_KEY])
    web.run_app(
        app,
        host=LOOPBACK,
        port=int(os.environ[PORT]),
        print=None,
        access_log=None,
        shutdown_timeout=2.0,
        handler_cancellation=True,
    )


if __name__ == "__main__":
    main()
