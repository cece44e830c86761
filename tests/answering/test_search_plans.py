"""What Postgres makes of the search statements: the traps of answering.md, seen in EXPLAIN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ragsvc.db import search
from ragsvc.models import new_id

if TYPE_CHECKING:
    from ragsvc.db.pool import Pool
    from ragsvc.models import Workspace
    from ragsvc.resources import Resources

CHUNKS = 3000

FILL = """
INSERT INTO {table} (workspace_id, chunk_id, document_id, collection_id, build_id, embedding)
SELECT $1, gen_random_uuid(), $2, $2, $2,
       (SELECT array_agg(random() - 0.5) FROM generate_series(1, 384) WHERE n > 0)::real[]::halfvec(384)
FROM generate_series(1, $3) AS numbers (n)
"""


@pytest.fixture
async def filled(resources: Resources, workspace: Workspace) -> Resources:
    """A workspace with enough vectors for the planner to think of their index."""
    async with resources.pool.acquire() as conn:
        await conn.execute(FILL.format(table=resources.space.table), workspace.id, new_id(), CHUNKS)
        await conn.execute(f"ANALYZE {resources.space.table}")
    return resources


def arguments(workspace: Workspace, *, fetched: int = 50, limit: int = 10) -> list[object]:
    """Return the arguments that every statement takes."""
    vector = np.random.default_rng(3).standard_normal(384, dtype=np.float32)
    return [workspace.id, None, None, None, {}, vector, fetched, limit, None, "english", "kettle boils", 1.0, 0.5]


async def explain(pool: Pool, statement: str, workspace: Workspace) -> list[dict[str, Any]]:
    """Return every node of the plan as it ran."""
    async with pool.acquire() as conn:
        plan = await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {statement}", *arguments(workspace))
    if isinstance(plan, str):
        import orjson  # noqa: PLC0415

        plan = orjson.loads(plan)
    nodes, pending = [], [plan[0]["Plan"]]
    while pending:
        node = pending.pop()
        nodes.append(node)
        pending.extend(node.get("Plans", []))
    return nodes


@pytest.mark.parametrize("name", ["SELECT_HITS_DENSE_LARGE", "SELECT_HITS_HYBRID_LARGE"])
async def test_the_index_is_used_and_gives_all_that_was_fetched(
    filled: Resources, workspace: Workspace, name: str
) -> None:
    live = search.LIVE
    # The filled documents are not in `documents`; the shape is what counts here, so every row counts as live.
    statement = getattr(search, name).format(table=filled.space.table)
    anything = statement.replace(
        f"SELECT d.active_build = v.build_id FROM documents d WHERE d.id = v.document_id AND {live}", "SELECT true"
    )
    assert anything != statement
    nodes = await explain(filled.pool, anything, workspace)
    scans = [node for node in nodes if node["Node Type"] == "Index Scan" and "embedding" in node.get("Index Name", "")]
    assert sum(scan["Actual Rows"] for scan in scans) == 50
    # The trap: without `+ 0` the scan's relaxed order is taken for sorted, and stops after the first rows.
    sorts = [node for node in nodes if node["Node Type"] in {"Sort", "Incremental Sort"}]
    assert any("+" in key for sort in sorts for key in sort["Sort Key"])


@pytest.mark.parametrize("name", ["SELECT_HITS_DENSE_LARGE", "SELECT_HITS_HYBRID_LARGE"])
async def test_liveness_keeps_the_index(filled: Resources, workspace: Workspace, name: str) -> None:
    nodes = await explain(filled.pool, getattr(search, name).format(table=filled.space.table), workspace)
    assert any(node["Node Type"] == "Index Scan" and "embedding" in node.get("Index Name", "") for node in nodes)


@pytest.mark.parametrize("name", ["SELECT_HITS_DENSE_SMALL", "SELECT_HITS_HYBRID_SMALL"])
async def test_a_small_scope_never_asks_the_vector_index(filled: Resources, workspace: Workspace, name: str) -> None:
    nodes = await explain(filled.pool, getattr(search, name).format(table=filled.space.table), workspace)
    assert not [node for node in nodes if "embedding" in node.get("Index Name", "")]
