"""The embedding cache does not show what other workspaces have: `make bench`, on an idle machine.

One workspace embeds texts that another one has embedded, alternating with texts that nobody has. Their usage is equal,
and no threshold on the time tells them apart.
`CACHE_BENCH_PAIRS` is the number of pairs; use fewer to try the benchmark itself.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ragsvc.ingestion.embedding import embed_chunks
from ragsvc.llm.call_times import MIN_KNOWN
from tests.bench.table import at_least, at_most
from tests.support.documents.builds import make_chunks
from tests.support.usage import embeddings_of
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.usage import EmbeddingUsage
    from ragsvc.resources import Resources
    from tests.bench.table import BenchTable

PAIRS = int(os.environ.get("CACHE_BENCH_PAIRS", "200"))
RUNS = 3
LOWEST_AUC, HIGHEST_AUC = 0.4, 0.6


async def ignore(_count: int) -> None: ...


async def time_embedding(resources: Resources, workspace_id: UUID, text: str) -> float:
    """Embed a document of one chunk, and return the time in seconds."""
    begun = time.perf_counter()
    await embed_chunks(resources, workspace_id, make_chunks([text]), report=ignore)
    return time.perf_counter() - begun


async def usage_of(resources: Resources, workspace_id: UUID) -> EmbeddingUsage:
    """Return the usage so far."""
    return (await embeddings_of(resources.pool, workspace_id))[resources.settings.llm.embedding_model]


def auc(known: list[float], unknown: list[float]) -> float:
    """Return the probability that a known text takes longer than an unknown one: the area under the ROC curve."""
    return float(np.greater.outer(known, unknown).mean() + np.equal.outer(known, unknown).mean() / 2)


@pytest.mark.bench
async def test_a_cached_text_of_others_looks_like_a_new_one(resources: Resources, bench_table: BenchTable) -> None:
    victim, spy, spy_of_unknown = [
        (await create_workspace(resources.pool, resources.storage, resources.settings)).id for _ in range(3)
    ]
    for number in range(2 * MIN_KNOWN):
        await time_embedding(resources, victim, f"Warm up {number:04}.")
    areas = []
    for run in range(RUNS):
        texts = [f"Salary {number:04} of run {run}." for number in range(PAIRS)]
        for text in texts:
            await time_embedding(resources, victim, text)
        known, unknown = [], []
        for text in texts:
            known.append(await time_embedding(resources, spy, text))
            unknown.append(await time_embedding(resources, spy_of_unknown, text.replace("Salary", "Income")))
        areas.append(auc(known, unknown))
    median = statistics.median(areas)
    bench_table.add("AUC of the time, known against unknown texts", median, "", goal=at_most(HIGHEST_AUC))
    bench_table.add("AUC of the time, lower bound", median, "", goal=at_least(LOWEST_AUC))
    of_known, of_unknown = [await usage_of(resources, workspace_id) for workspace_id in (spy, spy_of_unknown)]
    assert of_known == of_unknown
    assert of_known.calls == RUNS * PAIRS
    bench_table.check()
