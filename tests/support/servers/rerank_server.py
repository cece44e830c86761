"""A rerank server that scores texts by the words they share with the query, or responds as a test scripts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings


@dataclass(slots=True)
class RerankServer:
    """A server for both rerank protocols; `response` and `status` replace what it sends, `hangs` withholds it."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    response: object = None
    status: int = 200
    hangs: bool = False

    def applied_to(self, settings: Settings, **changes: object) -> Settings:
        """Return the settings of a process that uses this server."""
        update = {"rerank_base_url": self.url, "rerank_model": "scripted", **changes}
        return settings.changed(update)

    async def rerank(self, request: web.Request) -> web.Response:
        """Score the texts."""
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if self.hangs:
            await asyncio.Event().wait()
        if self.response is not None or self.status != 200:
            return web.json_response(self.response, status=self.status)
        query = set(body["query"].casefold().split())
        texts = body.get("documents") or body["texts"]
        scores = [len(query & set(text.casefold().strip(".").split())) / len(query) for text in texts]
        # Best first, as real servers respond.
        order = sorted(range(len(texts)), key=lambda index: -scores[index])
        if "texts" in body:
            return web.json_response([{"index": index, "score": scores[index]} for index in order])
        results = [{"index": index, "relevance_score": scores[index]} for index in order]
        return web.json_response({"id": "r", "results": results})


@asynccontextmanager
async def serving_reranker() -> AsyncIterator[RerankServer]:
    """Serve on a free port."""
    server = RerankServer()
    app = web.Application()
    app.router.add_post("/rerank", server.rerank)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
