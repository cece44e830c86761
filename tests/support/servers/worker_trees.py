"""A worker with its child processes, whose memory is measured while it ingests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from ragsvc.domain.documents import DocumentStatus
from ragsvc.resources import open_resources
from tests.support.documents.documents import accept, reload
from tests.support.polling import until
from tests.support.servers.model_server import ScriptedModels
from tests.support.servers.worker_processes import working
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ragsvc.domain.documents import Document
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

MIB = 1024 * 1024
SAMPLE_S = 0.2
# The limits of OpenAI's models.
LARGE_CHUNKS = {
    "embedding_tokenizer": "text-embedding-3-small",
    "embedding_max_input_tokens": 8191,
    "chunk_max_tokens": 512,
    "chunk_overlap_tokens": 64,
}
ENDED = frozenset({DocumentStatus.READY, DocumentStatus.FAILED})


@dataclass(slots=True)
class WorkerTree:
    """One ingestion worker, and the peak memory of its processes."""

    resources: Resources
    workspace: Workspace
    pid: int
    peak_bytes: int = 0
    peak_child_bytes: int = 0

    async def ingest(self, contents: Iterable[tuple[str, bytes]], *, timeout_s: float) -> list[Document]:
        """Upload (name, content) pairs, and return their documents in order once all are ready or failed."""
        accepted = [
            await accept(self.resources, self.workspace, content, filename=name, mime_type="")
            for name, content in contents
        ]

        async def all_ended() -> list[Document] | None:
            current = [await reload(self.resources, document) for document in accepted]
            return current if {document.status for document in current} <= ENDED else None

        return await until(all_ended, timeout_s=timeout_s, what="the end of all documents")

    async def watch(self) -> None:
        """Sample the memory until cancelled; pages that processes share count once."""
        while True:
            total, child = await asyncio.to_thread(_measure, self.pid)
            self.peak_bytes = max(self.peak_bytes, total)
            self.peak_child_bytes = max(self.peak_child_bytes, child)
            await asyncio.sleep(SAMPLE_S)


@asynccontextmanager
async def open_worker_tree(settings: Settings, *, watches: bool = True, **changes: object) -> AsyncIterator[WorkerTree]:
    """Run a worker with concurrency 2 and an embedding server without delay.

    Benchmarks of speed set `watches` to False, because sampling the memory takes a few percent of a core.
    """
    models = ScriptedModels()
    models.uses_table = True
    async with models.serving():
        own = models.applied_to(settings).changed(LARGE_CHUNKS | {"ingestion_concurrency": 2} | changes)
        async with open_resources(own, pool_size=4) as resources, working(own) as worker:
            workspace = await create_workspace(resources.pool, resources.storage, own)
            tree = WorkerTree(resources, workspace, worker.pid)
            watching = asyncio.create_task(tree.watch()) if watches else None
            try:
                yield tree
            finally:
                if watching is not None:
                    watching.cancel()
                    with suppress(asyncio.CancelledError):
                        await watching


def _measure(pid: int) -> tuple[int, int]:
    """Return the bytes of the whole tree, with shared pages counted once, and those of the largest child."""
    total = largest = 0
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(pid)
        for process in (worker, *worker.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                total += memory.pss
                largest = max(largest, memory.rss if process.pid != pid else 0)
    return total, largest
