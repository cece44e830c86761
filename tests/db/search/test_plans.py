"""Query plans of the search statements, in particular for index scans in relaxed order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest

from ragsvc.db.search import hits
from tests.support.servers.databases import owner_of

if TYPE_CHECKING:
    from tests.support.documents.library import Library

FETCHED = 5


async def explain(library: Library, name: str) -> list[dict[str, Any]]:
    """Return all plan nodes of a statement executed on 200 chunks, with other plans discouraged."""
    await library.add(*(f"Kettle number {number} boils." for number in range(200)))
    vector = np.random.default_rng(3).standard_normal(384, dtype=np.float32)
    arguments: list[object] = [
        library.workspace_id,
        None,
        None,
        None,
        {},
        vector,
        FETCHED,
        10,
        None,
        "english",
        "kettle",
        1.0,
        0.5,
        200,
        4.0,
        True,
    ]
    table = library.resources.space.table
    statement = getattr(hits, name).format(table=table)
    async with owner_of(library.resources.settings) as owner:
        await owner.execute(f"ANALYZE {table}")
    async with library.resources.scoped_to(library.workspace_id).pool.acquire() as conn, conn.transaction():
        # For so few rows the planner would prefer a sequential scan; these tests are about the use of the index.
        await conn.execute("SET LOCAL enable_seqscan = off")
        await conn.execute("SET LOCAL enable_bitmapscan = off")
        await conn.execute("SET LOCAL enable_sort = off")
        plan = await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {statement}", *arguments)
    nodes, pending = [], [orjson.loads(plan)[0]["Plan"]]
    while pending:
        node = pending.pop()
        nodes.append(node)
        pending.extend(node.get("Plans", []))
    return nodes


def vector_scans(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the scans of the vector index."""
    return [node for node in nodes if "embedding" in node.get("Index Name", "")]


@pytest.mark.parametrize("name", ["SELECT_HITS_DENSE_LARGE", "SELECT_HITS_HYBRID_LARGE"])
async def test_a_large_scope_fetches_all_candidates_from_the_index(library: Library, name: str) -> None:
    nodes = await explain(library, name)
    assert sum(scan["Actual Rows"] for scan in vector_scans(nodes)) == hits.NEAR_PER_FETCHED * FETCHED


@pytest.mark.parametrize("name", ["SELECT_HITS_DENSE_LARGE", "SELECT_HITS_HYBRID_LARGE"])
async def test_results_of_the_index_are_sorted_again(library: Library, name: str) -> None:
    nodes = await explain(library, name)
    keys = [node["Sort Key"][0] for node in nodes if node["Node Type"] == "Sort" and "distance" in node["Sort Key"][0]]
    assert keys
    assert all("+" in key for key in keys)
    assert not [node for node in nodes if node["Node Type"] == "Incremental Sort"]


@pytest.mark.parametrize("name", ["SELECT_HITS_DENSE_LARGE", "SELECT_HITS_HYBRID_LARGE"])
async def test_the_scope_is_not_scanned_if_the_index_finds_enough(library: Library, name: str) -> None:
    nodes = await explain(library, name)
    skipped = [node for node in nodes if "One-Time Filter" in node or node["Actual Loops"] == 0]
    assert any("<" in node.get("One-Time Filter", "") for node in skipped)
    table = library.resources.space.table
    scanned = [node for node in nodes if node.get("Relation Name", "").startswith(table) and node["Actual Loops"]]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scanned) < 200


@pytest.mark.parametrize("name", ["SELECT_HITS_DENSE_SMALL", "SELECT_HITS_HYBRID_SMALL"])
async def test_a_small_scope_never_uses_the_vector_index(library: Library, name: str) -> None:
    nodes = await explain(library, name)
    assert nodes
    assert vector_scans(nodes) == []
