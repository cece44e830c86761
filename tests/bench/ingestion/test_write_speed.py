"""Chunks are written many times faster than by other frameworks' stores, and at least half as fast as by bare COPY."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ragsvc.db.connections.pool import halfvec_array
from ragsvc.domain.ids import new_id
from ragsvc.ingestion.builds import Build
from ragsvc.jobs import lifecycle
from ragsvc.jobs.lease import Lease
from tests.bench.ingestion.indexes import drop_indexes
from tests.bench.table import ratio_at_least
from tests.support.documents.builds import make_chunks
from tests.support.documents.documents import accept, job_of
from tests.support.servers.databases import cloned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from ragsvc.domain.chunks import Chunk
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.bench.table import BenchTable

PEERS = {"llama-index": 5, "haystack": 8, "langchain": 20}
HERE = Path(__file__).parent
ROWS = int(os.environ.get("BENCH_ROWS", "8000"))
INDEXED_ROWS = ROWS // 2
# The number of chunks that the pipeline writes at once.
WINDOW = 512
COPY_BATCH = 2000
COLUMNS = ("workspace_id", "chunk_id", "document_id", "collection_id", "build_id", "embedding")


@dataclass(frozen=True, slots=True)
class Peers:
    """A Python environment with the frameworks, and the template of their databases."""

    python: Path
    database_url: str
    template: str

    async def write(self, name: str, chunks: Path) -> float:
        """Return the seconds that a framework takes to write the chunks into its own database."""
        async with cloned(self.database_url, template=self.template) as url:
            process = await asyncio.create_subprocess_exec(
                self.python, HERE / "peer.py", name, url, chunks, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await process.communicate()
        assert process.returncode == 0
        return float(said.split()[-1])


@pytest.fixture
def peers(pytestconfig: pytest.Config, settings: Settings, template: str) -> Peers:
    """The frameworks, installed once into pytest's cache."""
    folder = Path(pytestconfig.cache.mkdir("bench-peers"))
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)  # noqa: S603
        requirements = HERE / "peer_requirements.txt"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)  # noqa: S603
        (folder / "installed").touch()
    return Peers(python, settings.stores.database_url.get_secret_value(), template)


def make_texts(count: int) -> list[str]:
    """Return distinct texts of about a hundred characters."""
    filling = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod"
    return [f"chunk {number} about topic {number % 97} {filling}" for number in range(count)]


def make_vectors(count: int, dimensions: int) -> NDArray[np.float32]:
    """Return clustered unit vectors, like those of real texts."""
    random = np.random.default_rng(11)
    centres = random.normal(size=(400, dimensions))
    vectors = centres[random.integers(0, len(centres), count)] + 0.7 * random.normal(size=(count, dimensions))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


async def write_ours(
    resources: Resources, workspace: Workspace, chunks: Sequence[Chunk], vectors: NDArray[np.float32]
) -> float:
    """Return the seconds that a document's build takes to write its chunks."""
    document = await accept(resources, workspace)
    queued = await job_of(resources, document)
    job = await lifecycle.claim(resources.pool, queued.id, queue=queued.queue, owner="bench", lease_s=600)
    assert job is not None
    build = Build(resources, Lease(resources.pool, job, resources.settings), document)
    begun = time.perf_counter()
    for start in range(0, len(chunks), WINDOW):
        await build.write_chunks(chunks[start : start + WINDOW], vectors[start : start + WINDOW])
    return time.perf_counter() - begun


async def copy_vectors(resources: Resources, workspace_id: UUID, vectors: NDArray[np.float32]) -> float:
    """Return the seconds that a bare COPY of the vectors takes."""
    document_id, build_id = new_id(), new_id()
    rows = [(workspace_id, new_id(), document_id, document_id, build_id, vector) for vector in halfvec_array(vectors)]
    async with resources.pool.acquire() as conn:
        begun = time.perf_counter()
        for start in range(0, len(rows), COPY_BATCH):
            await conn.copy_records_to_table(
                resources.space.table, records=rows[start : start + COPY_BATCH], columns=COLUMNS
            )
        return time.perf_counter() - begun


async def empty(resources: Resources) -> None:
    """Empty the tables: inserting into an index slows down as it grows."""
    async with resources.pool.acquire() as conn, conn.transaction():
        # Tables are owned by the migrating role.
        await conn.execute("SET LOCAL ROLE NONE")
        await conn.execute(f"TRUNCATE chunk_text, {resources.space.table}")


@pytest.mark.bench
async def test_chunk_writes_reach_the_documented_speed(
    resources: Resources,
    workspace: Workspace,
    peers: Peers,
    tmp_path: Path,
    bench_table: BenchTable,
) -> None:
    texts, vectors = make_texts(ROWS), make_vectors(ROWS, resources.space.dimensions)
    chunks, stored = make_chunks(texts), tmp_path / "chunks.npz"
    np.savez(stored, texts=np.array(texts), vectors=vectors)
    indexed, copied = [], []
    part = slice(0, INDEXED_ROWS)
    for _ in range(2):
        await empty(resources)
        copied.append(await copy_vectors(resources, workspace.id, vectors[part]))
        await empty(resources)
        indexed.append(await write_ours(resources, workspace, chunks[part], vectors[part]))
    async with resources.pool.acquire() as conn:
        await drop_indexes(conn)
    plain = []
    for _ in range(3):
        await empty(resources)
        plain.append(await write_ours(resources, workspace, chunks, vectors))
    ours = ROWS / min(plain)
    for name, goal in PEERS.items():
        theirs = ROWS / await peers.write(name, stored)
        bench_table.add("write", ours, "rows/s", peer=(name, theirs), goal=ratio_at_least(goal))
    bench_table.add(
        "write with HNSW",
        INDEXED_ROWS / min(indexed),
        "rows/s",
        peer=("COPY of the vectors alone", INDEXED_ROWS / min(copied)),
        goal=ratio_at_least(0.5),
    )
    bench_table.check()
