"""The model server's OpenAI-compatible API: MiniLM embeddings and the extractive answerer."""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from ragsvc.abstention import read_instruction
from ragsvc.devstack.model_server import extractive, wire
from ragsvc.devstack.model_server.minilm import DIMENSIONS, MAX_TOKENS, MiniLM
from ragsvc.devstack.model_server.wire import Completion, Refused
from ragsvc.devstack.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ragsvc.devstack.model_server.minilm import Encoded

EMBEDDING_MODEL = "all-MiniLM-L6-v2"
MODELS = {EMBEDDING_MODEL: "sentence embeddings, 384 dimensions, 256 tokens", extractive.NAME: extractive.LABEL}
MAX_BODY_BYTES = 64 * 1024 * 1024

PORT = "RAGSVC_MODELS_PORT"
API_KEY = "RAGSVC_MODELS_API_KEY"
CACHE = "RAGSVC_MODELS_CACHE"

MINILM = web.AppKey("MINILM", MiniLM)
KEY = web.AppKey("KEY", str)
routes = web.RouteTableDef()

_WORD_AND_SPACE = re.compile(r"\S+\s*")


@routes.get("/health")
async def health(_request: web.Request) -> web.Response:
    """Return 200 once the model is loaded."""
    return web.json_response({"status": "ok", "models": MODELS})


@routes.get("/v1/models")
async def list_models(_request: web.Request) -> web.Response:
    """List both models with their descriptions."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "ragsvc", "description": description}
        for name, description in MODELS.items()
    ]
    return web.json_response({"object": "list", "data": data})


@routes.post("/v1/embeddings")
async def create_embeddings(request: web.Request) -> web.Response:
    """Embed a string or a list of strings."""
    body = await wire.read_body(request, model=EMBEDDING_MODEL)
    texts, encoding_format = wire.read_input(body), wire.read_encoding_format(body)
    if body.get("dimensions", DIMENSIONS) != DIMENSIONS:
        raise Refused(f"{EMBEDDING_MODEL} has {DIMENSIONS} dimensions", param="dimensions")
    encoded = await request.app[MINILM].encode(texts)
    _check_lengths(encoded)
    vectors = await request.app[MINILM].embed(encoded)
    tokens = sum(len(text.ids) for text in encoded)
    data = [
        {"object": "embedding", "index": index, "embedding": wire.write_vector(vector, encoding_format=encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return web.json_response({"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage})


@routes.post("/v1/chat/completions")
async def create_completion(request: web.Request) -> web.StreamResponse:
    """Answer the last user message from the sources in it, as one object or as a stream."""
    body = await wire.read_body(request, model=extractive.NAME)
    *before, question = wire.read_questions(body)
    minilm = request.app[MINILM]

    async def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        # A sentence longer than the model's input is compared by its beginning but quoted in full.
        return await minilm.embed([text.cut(MAX_TOKENS) for text in await minilm.encode(texts)])

    no_answer_text = read_instruction(wire.read_system(body))
    content = await extractive.answer(question, embed, before=before, no_answer_text=no_answer_text)
    asked, said = await minilm.encode([question, content])
    completion = Completion(extractive.NAME, content, len(asked.ids), len(said.ids))
    if body.get("stream"):
        return await _stream(request, completion, include_usage=wire.wants_usage(body))
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    whole = completion.envelope("chat.completion") | {"choices": [choice], "usage": completion.usage}
    return web.json_response(whole)


async def _stream(request: web.Request, completion: Completion, *, include_usage: bool) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    chunk = completion.envelope("chat.completion.chunk") | ({"usage": None} if include_usage else {})
    deltas = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in _WORD_AND_SPACE.findall(completion.content)]
    for delta in deltas:
        await _send(response, chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    await _send(response, chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if include_usage:
        await _send(response, chunk | {"choices": [], "usage": completion.usage})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, event: dict[str, object]) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


def _check_lengths(encoded: Sequence[Encoded]) -> None:
    for index, text in enumerate(encoded):
        if len(text.ids) > MAX_TOKENS:
            message = f"input {index} has {len(text.ids)} tokens, but {EMBEDDING_MODEL} accepts at most {MAX_TOKENS}"
            raise Refused(message, param="input", code="context_length_exceeded")


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        if request.path != "/health":
            _check_key(request)
        return await handler(request)
    except Refused as refused:
        return wire.write_error(refused)
    except web.HTTPException as error:
        return wire.write_error(Refused(error.reason, status=error.status))


def _check_key(request: web.Request) -> None:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), request.app[KEY].encode()):
        raise Refused("the API key is invalid", status=401, code="invalid_api_key")


def create_app(cache: Path, *, api_key: str) -> web.Application:
    """Return the application; `cache` is the folder of the ONNX graph."""

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
    """Run the server as configured in the environment."""
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
