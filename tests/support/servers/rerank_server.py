"""A reranker's server that finds relevant what shares words with the query, and does what a test has it do."""

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
    """A server of both wires; `answer` stands for its answer, `status` for its status, and `hangs` for neither."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    answer: object = None
    status: int = 200
    hangs: bool = False

    def applied_to(self, settings: Settings, **changes: object) -> Settings:
        """Return the settings of a process that uses it."""
        update = {"rerank_base_url": self.url, "rerank_model": "scripted", **changes}
        return settings.changed(update)

    async def rerank(self, request: web.Request) -> web.Response:
        """Score the texts."""
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if self.hangs:
            await asyncio.Event().wait()
        if self.answer is not None or self.status != 200:
            return web.json_response(self.answer, status=self.status)
        query = set(body["query"].casefold().split())
        texts = body.get("documents") or body["texts"]
        scores = [len(query & set(text.casefold().strip(".").split())) / len(query) for text in texts]
        # The best first, as servers give them.
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
