"""Search is nearly as fast as its SQL, and finds what an exact scan finds: `make bench`, on an idle machine.

`SEARCH_BENCH_CHUNKS=100000,400000` are the workspace sizes; use smaller ones to try the benchmark itself.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ragsvc.db.search.hits import SELECT_HITS_DENSE_LARGE, SELECT_HITS_HYBRID_LARGE
from ragsvc.db.search.scope import SELECT_SCOPE
from ragsvc.domain.search import SearchMode
from ragsvc.domain.usage import EmbeddingUsage
from ragsvc.retrieval.filters import Comparator, Comparison
from ragsvc.retrieval.search import SearchRequest, find_hits
from tests.bench.search.corpus import BUCKETS, spell, write_corpus
from tests.bench.search.vectors import SHARES, TOPICS, embed_sample, make_vectors
from tests.bench.table import at_least, ratio_at_most

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from uuid import UUID

    from numpy.typing import NDArray

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from tests.bench.search.corpus import Corpus
    from tests.bench.search.vectors import Vectors
    from tests.bench.table import BenchTable

SIZES = [int(size) for size in os.environ.get("SEARCH_BENCH_CHUNKS", "100000,400000").split(",")]
CHUNKS_PER_DOCUMENT = 10
HITS = 10
FETCHED = 50
# Half of the queries of a scope are about its topic, half about any topic.
QUERIES = 40
# With fewer rounds the medians are noisy, because the cache is cold when a question is first asked and warm afterwards.
ROUNDS = 9
# Half-precision rounding can make equal distances differ by up to this much.
TOLERANCE = 1e-4
LEAST_RECALL = 0.97
LEAST_SMALL_SCOPE = 10_000
HIGHEST_RATIO = 1.3
HIGHEST_DENSE_RATIO = 3.0
COMMON_WORDS = range(50, 3000)
RAW_KNN = """
SELECT chunk_id FROM {table} WHERE workspace_id = $1 ORDER BY embedding <=> $2 LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the workspace: its selection and its chunks."""

    name: str
    request: SearchRequest
    chunks: NDArray[np.bool_]
    topic: int | None


@dataclass(frozen=True, slots=True)
class Bench:
    """A loaded workspace and its queries."""

    resources: Resources
    corpus: Corpus
    queries: Vectors

    def scopes(self) -> Iterator[Scope]:
        """Yield each share of the workspace twice, as one topic's collection and as a random filter; then all of it."""
        for topic, share in enumerate(SHARES):
            request = SearchRequest("", collection_ids=(self.corpus.collection_ids[topic],))
            yield Scope(f"{share:.1%}, one topic", request, self.corpus.vectors.topics == topic, topic)
            limit = int(share * BUCKETS)
            request = SearchRequest("", filters=Comparison(Comparator.LT, "bucket", limit))
            yield Scope(f"{share:.1%}, random", request, self.corpus.in_bucket_below(limit), None)
        yield Scope("all of it", SearchRequest(""), np.ones(len(self.corpus.chunk_ids), dtype=bool), None)

    def choose_queries(self, scope: Scope) -> NDArray[np.float32]:
        """Return query vectors, those about the scope first."""
        about = np.flatnonzero(self.queries.topics == scope.topic)[: QUERIES // 2]
        others = np.arange(QUERIES - len(about))
        return self.queries.values[[*about, *others]]


@pytest.fixture(params=SIZES)
async def bench(request: pytest.FixtureRequest, resources: Resources, workspace: Workspace) -> Bench:
    """A workspace with the given number of chunks."""
    sample = await embed_sample(resources.llm)
    vectors = make_vectors(sample, request.param // CHUNKS_PER_DOCUMENT, chunks=CHUNKS_PER_DOCUMENT, seed=1)
    async with resources.pool.acquire() as conn:
        corpus = await write_corpus(
            conn, workspace.id, vectors, chunks_per_document=CHUNKS_PER_DOCUMENT, space=resources.space
        )
    return Bench(resources, corpus, make_vectors(sample, QUERIES * TOPICS, chunks=1, seed=2))


@pytest.mark.bench
async def test_search_is_as_fast_as_its_sql_with_full_recall_in_every_scope(
    bench: Bench, bench_table: BenchTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _measure_recall(bench, bench_table, monkeypatch)
    await _measure_speed(bench, bench_table, monkeypatch)
    bench_table.check()


async def _measure_recall(bench: Bench, bench_table: BenchTable, monkeypatch: pytest.MonkeyPatch) -> None:
    size = f"{len(bench.corpus.chunk_ids):,} chunks"
    stored = bench.corpus.vectors.values.astype(np.float16).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    for scope in bench.scopes():
        recalls, times = [], []
        for vector in bench.choose_queries(scope):
            _answer_queries_with(monkeypatch, bench, vector)
            started = time.perf_counter()
            found = await find_hits(bench.resources, bench.corpus.workspace_id, _dense(scope.request))
            times.append(time.perf_counter() - started)
            worst = np.sort((stored @ vector.astype(np.float16).astype(np.float32))[scope.chunks])[-HITS:][0]
            recalls.append(sum(hit.score >= worst - TOLERANCE for hit in found.hits) / HITS)
        recall = float(np.mean(recalls))
        bench_table.add(f"{size}, {scope.name}: recall@{HITS}", recall, "of exact", goal=at_least(LEAST_RECALL))
        bench_table.add(f"{size}, {scope.name}: p50", float(np.median(times)) * 1000, "ms", goal=None)


async def _measure_speed(bench: Bench, bench_table: BenchTable, monkeypatch: pytest.MonkeyPatch) -> None:
    size = f"{len(bench.corpus.chunk_ids):,} chunks"
    random = np.random.default_rng(3)
    times: dict[str, list[float]] = {}
    vectors = bench.queries.values[:QUERIES]
    texts = [" ".join(map(spell, random.choice(COMMON_WORDS, 4))) for _ in vectors]
    for _ in range(ROUNDS):
        for vector, text in zip(vectors, texts, strict=True):
            _answer_queries_with(monkeypatch, bench, vector)
            ways = list(_ways(bench, vector, text).items())
            # The order is random because the first way to run a question finds Postgres's cache cold.
            random.shuffle(ways)
            for name, call in ways:
                started = time.perf_counter()
                await call()
                times.setdefault(name, []).append(time.perf_counter() - started)
    p50 = {name: float(np.median(found)) * 1000 for name, found in times.items()}
    for mode, peer, highest in (
        ("hybrid", "hybrid SQL", HIGHEST_RATIO),
        ("dense", "dense SQL", HIGHEST_RATIO),
        ("dense", "bare KNN", HIGHEST_DENSE_RATIO),
    ):
        bench_table.add(f"{size}, {mode}: p50", p50[mode], "ms", peer=(peer, p50[peer]), goal=ratio_at_most(highest))
    bench_table.add(f"{size}, counting the scope: p50", p50["scope SQL"], "ms")


def _ways(bench: Bench, vector: NDArray[np.float32], text: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the timed variants by name: the service's search, its two statements, and the index alone."""
    corpus, resources = bench.corpus, bench.resources

    def search(mode: SearchMode) -> Callable[[], Awaitable[object]]:
        return lambda: find_hits(resources, corpus.workspace_id, SearchRequest(text, mode=mode))

    def sql(statement: str) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            async with resources.pool.acquire() as conn:
                await _run_sql(conn, bench, statement.format(table=resources.space.table), vector=vector, text=text)

        return run

    async def knn() -> None:
        async with resources.pool.acquire() as conn:
            await conn.fetch(RAW_KNN.format(table=resources.space.table), corpus.workspace_id, vector, HITS)

    async def scope() -> None:
        async with resources.pool.acquire() as conn:
            await conn.fetchrow(SELECT_SCOPE, corpus.workspace_id, None)

    return {
        "hybrid": search(SearchMode.HYBRID),
        "hybrid SQL": sql(SELECT_HITS_HYBRID_LARGE),
        "dense": search(SearchMode.DENSE),
        "dense SQL": sql(SELECT_HITS_DENSE_LARGE),
        "bare KNN": knn,
        "scope SQL": scope,
    }


async def _run_sql(conn: Connection, bench: Bench, statement: str, *, vector: NDArray[np.float32], text: str) -> None:
    """Run the two statements of a search directly."""
    corpus, settings = bench.corpus, bench.resources.settings
    everything = _everything(corpus)
    weights = settings.answering.dense_weight, settings.answering.lexical_weight
    scope = await conn.fetchrow(SELECT_SCOPE, corpus.workspace_id, None)
    assert scope is not None
    per_chunk = scope["tokens"] / scope["chunks"]
    await conn.fetch(
        statement,
        *everything,
        vector,
        FETCHED,
        HITS,
        None,
        settings.answering.text_search_config,
        text,
        *weights,
        *(scope["chunks"], per_chunk, True),
    )


def _everything(corpus: Corpus) -> tuple[object, ...]:
    """Return the arguments that select all documents."""
    return corpus.workspace_id, None, None, None, {}


def _dense(request: SearchRequest) -> SearchRequest:
    return SearchRequest(
        "about anything", collection_ids=request.collection_ids, filters=request.filters, mode=SearchMode.DENSE
    )


def _answer_queries_with(monkeypatch: pytest.MonkeyPatch, bench: Bench, vector: NDArray[np.float32]) -> None:
    """Embed every query as this vector, so that the model's time is not measured."""

    async def embed_query(_text: str, _workspace_id: UUID) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        return vector, EmbeddingUsage()

    monkeypatch.setattr(bench.resources.llm, "embed_query", embed_query)
