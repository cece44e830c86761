"""The statements of the queues on a table with a million ended and 100,000 waiting jobs, and on an empty one."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import pytest

from ragsvc.db import jobs, overdue_jobs, queue_state
from ragsvc.domain.ids import new_id
from ragsvc.domain.jobs import JobKind, Queue, SubjectKind
from ragsvc.jobs.sweeper import BATCH, GRACE_S
from tests.bench.table import at_most

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.resources import Resources
    from tests.bench.table import BenchTable

pytestmark = pytest.mark.bench

ENDED, WAITING = 1_000_000, 100_000
ROUNDS = 300
# The largest allowed cost on the full table.
MAX_RATIO, MAX_EXTRA_MS, MAX_EXTRA_BUFFERS = 1.2, 0.3, 5

FILL = """
INSERT INTO jobs (workspace_id, id, queue, kind, subject_kind, subject_id, max_attempts, status, run_at, finished_at)
SELECT $1::uuid, gen_random_uuid(), CASE WHEN n % 2 = 0 THEN 'ingestion' ELSE 'deletion' END,
    CASE WHEN n % 2 = 0 THEN 'ingest' ELSE 'deliver' END, CASE WHEN n % 2 = 0 THEN 'document' ELSE 'delivery' END,
    gen_random_uuid(), 8, $3, now() + make_interval(days => $4), CASE WHEN $3 = 'done' THEN now() - interval '1 day' END
FROM generate_series(1, $2::integer) n
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """The median time of a statement, and the buffers that it reads."""

    ms: float
    buffers: int


async def enqueue(conn: Connection, workspace_id: UUID) -> UUID:
    job_id = new_id()
    await jobs.insert_job(
        conn,
        workspace_id,
        job_id,
        queue=Queue.INGESTION,
        kind=JobKind.INGEST,
        subject_kind=SubjectKind.DOCUMENT,
        subject_id=job_id,
        payload={},
        max_attempts=8,
        trace_id=None,
    )
    return job_id


async def count_buffers(conn: Connection, sql: str, *arguments: object) -> int:
    """Return the number of buffers that a statement reads; what it changes is rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        explained = await conn.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *arguments)
    finally:
        await transaction.rollback()
    (plan,) = orjson.loads(explained)
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


async def measure(conn: Connection, workspace_id: UUID) -> dict[str, Cost]:
    """Return the cost of each statement."""
    times: dict[str, list[float]] = {"enqueue": [], "claim": [], "sweep": []}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        job_id = await enqueue(conn, workspace_id)
        enqueued = time.perf_counter()
        claimed = await jobs.claim_job(conn, job_id, queue=Queue.INGESTION, owner="bench", token=new_id(), lease_s=600)
        taken = time.perf_counter()
        await overdue_jobs.select_overdue_jobs(conn, Queue.INGESTION, grace_s=GRACE_S, limit=BATCH)
        await overdue_jobs.select_expired_leases(conn, Queue.INGESTION, limit=BATCH)
        swept = time.perf_counter()
        assert claimed is not None
        assert await jobs.finish_job(conn, claimed)
        for name, took in (("enqueue", enqueued - start), ("claim", taken - enqueued), ("sweep", swept - taken)):
            times[name].append(took * 1000)
    job_id = await enqueue(conn, workspace_id)
    buffers = {
        "claim": await count_buffers(conn, jobs.CLAIM_JOB, job_id, "bench", new_id(), 600.0, Queue.INGESTION),
        "sweep": await count_buffers(conn, overdue_jobs.SELECT_OVERDUE_JOBS, "ingestion", GRACE_S, BATCH, None, None),
        "enqueue": await count_buffers(
            conn, jobs.INSERT_JOB, workspace_id, new_id(), "ingestion", "ingest", "document", new_id(), {}, 8, None
        ),
    }
    await conn.execute("DELETE FROM jobs WHERE id = $1", job_id)
    return {name: Cost(statistics.median(values), buffers[name]) for name, values in times.items()}


async def test_the_statements_of_the_queues_cost_the_same_on_full_tables(
    resources: Resources, bench_table: BenchTable
) -> None:
    workspace_id = new_id()
    async with resources.pool.acquire() as conn:
        empty = await measure(conn, workspace_id)
        await conn.execute("SET statement_timeout = 0")
        await conn.execute(FILL, workspace_id, ENDED, "done", -1, timeout=900)
        await conn.execute(FILL, workspace_id, WAITING, "queued", 1, timeout=900)
        await conn.execute("VACUUM ANALYZE jobs", timeout=900)
        full = await measure(conn, workspace_id)
        start = time.perf_counter()
        await queue_state.select_queue_depths(conn)
        depths_ms = (time.perf_counter() - start) * 1000
    for name, cost in full.items():
        allowed_ms = max(MAX_RATIO * empty[name].ms, empty[name].ms + MAX_EXTRA_MS)
        bench_table.add(
            f"{name}, full table", cost.ms, "ms", peer=("empty table", empty[name].ms), goal=at_most(allowed_ms)
        )
        bench_table.add(
            f"{name}, full table",
            cost.buffers,
            "buffers",
            peer=("empty table", empty[name].buffers),
            goal=at_most(empty[name].buffers + MAX_EXTRA_BUFFERS),
        )
    bench_table.add("depths, full table", depths_ms, "ms")
    bench_table.check()
