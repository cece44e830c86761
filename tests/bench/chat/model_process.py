"""A model server with minimal overhead, in its own process: `python -m tests.bench.chat.model_process`.

A model named `words-N-T` streams N words, one every T milliseconds, or all at once for T = 0. `/bare/N` is the
peer that our streams are compared with: N events, written by a minimal aiohttp loop.
"""

from __future__ import annotations

import asyncio
import base64
import sys

import numpy as np
import orjson
import uvloop
from aiohttp import web

DIMENSIONS = 384
# With T = 0, words are sent in writes of this size, as a loaded socket would deliver them.
BLOCK_BYTES = 16_384


def read_model(name: str) -> tuple[int, float]:
    """Return the number of words and the seconds between them."""
    _words, count, gap_ms = name.rsplit("-", 2)
    return int(count), float(gap_ms) / 1000


def chunk(model: str, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """Return a chunk in OpenAI's wire format."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": [choice]}
    return b"data: " + orjson.dumps(body) + b"\n\n"


async def complete(request: web.Request) -> web.StreamResponse:
    """Stream the words."""
    model = (await request.json())["model"]
    count, gap_s = read_model(model)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    said = bytearray()
    for number in range(count):
        if gap_s and number:
            await asyncio.sleep(gap_s)
        said += chunk(model, {"content": f"word{number} "})
        if gap_s or len(said) > BLOCK_BYTES:
            await response.write(bytes(said))
            said.clear()
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": count}}
    said += chunk(model, {}, "stop") + b"data: " + orjson.dumps(usage) + b"\n\ndata: [DONE]\n\n"
    await response.write(bytes(said))
    return response


async def embed(request: web.Request) -> web.Response:
    """Return vectors that depend only on the lengths of the texts."""
    inputs = (await request.json())["input"]
    texts = [inputs] if isinstance(inputs, str) else inputs
    data = []
    for index, text in enumerate(texts):
        vector = np.random.default_rng(len(text)).standard_normal(DIMENSIONS)
        unit = (vector / np.linalg.norm(vector)).astype(np.float32)
        data.append({"object": "embedding", "index": index, "embedding": base64.b64encode(unit.tobytes()).decode()})
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return web.json_response({"object": "list", "data": data, "model": "m", "usage": usage})


async def stream_bare(request: web.Request) -> web.StreamResponse:
    """Write events like those of an answer."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    offset = 0
    for number in range(int(request.match_info["count"])):
        text = f"word{number} "
        data = orjson.dumps({"run_id": "run_0123456789abcdef0123456789abcdef", "text": text, "offset": offset})
        await response.write(b"id: %d\nevent: message.delta\ndata: %b\n\n" % (number + 1, data))
        offset += len(text)
    return response


def main() -> None:
    """Serve on the port given on the command line."""
    uvloop.install()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_post("/v1/embeddings", embed)
    app.router.add_get("/bare/{count}", stream_bare)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
