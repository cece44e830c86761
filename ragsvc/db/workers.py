"""The table workers: the worker processes, as they report themselves. All times are from Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.jobs import Queue
from ragsvc.domain.workers import WorkerCount, WorkerProcess

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

# A worker reports itself at a third of this.
ALIVE_S = 30
_IS_ALIVE = f"last_seen_at > now() - interval '{ALIVE_S} s'"

UPSERT_WORKER = """
INSERT INTO workers AS known (id, queue, name, version, concurrency, last_look_at)
VALUES ($1, $2, $3, $4, $5, now() - make_interval(secs => $6))
ON CONFLICT (id) DO UPDATE SET last_seen_at = now(), last_look_at = excluded.last_look_at
"""

SELECT_WORKERS = f"""
SELECT id, queue, name, version, concurrency, started_at, last_seen_at, last_look_at, {_IS_ALIVE} AS is_alive
FROM workers ORDER BY queue DESC, started_at, id
"""

SELECT_WORKER_COUNTS = f"""
SELECT s.queue, count(*) FILTER (WHERE {_IS_ALIVE}) AS alive,
    extract(epoch FROM now() - max(w.last_seen_at))::float8 AS last_seen_age_s
FROM queue_state s LEFT JOIN workers w ON w.queue = s.queue GROUP BY s.queue ORDER BY s.queue DESC
"""

DELETE_WORKER = "DELETE FROM workers WHERE id = $1"

DELETE_SILENT_WORKERS = """
DELETE FROM workers WHERE id = ANY (ARRAY(
    SELECT id FROM workers WHERE last_seen_at < now() - make_interval(hours => $1) LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


async def upsert_worker(
    conn: Connection,
    worker_id: UUID,
    *,
    queue: Queue,
    name: str,
    version: str,
    concurrency: int,
    look_age_s: float,
) -> None:
    """Record that the worker lives, and that it last looked for jobs `look_age_s` seconds ago."""
    await conn.execute(UPSERT_WORKER, worker_id, queue, name, version, concurrency, look_age_s)


async def select_workers(conn: Connection) -> list[WorkerProcess]:
    """Return all workers that reported themselves lately, including those that fell silent."""
    rows = await conn.fetch(SELECT_WORKERS)
    return [WorkerProcess(**{**row, "queue": Queue(row["queue"])}) for row in rows]


async def select_worker_counts(conn: Connection) -> list[WorkerCount]:
    """Return the number of live workers of each queue."""
    rows = await conn.fetch(SELECT_WORKER_COUNTS)
    return [WorkerCount(**{**row, "queue": Queue(row["queue"])}) for row in rows]


async def delete_worker(conn: Connection, worker_id: UUID) -> None:
    """Remove a worker that stops."""
    await conn.execute(DELETE_WORKER, worker_id)


async def delete_silent_workers(conn: Connection, *, hours: int, limit: int) -> int:
    """Remove workers that have been silent for more than `hours` hours and return their number."""
    return int((await conn.execute(DELETE_SILENT_WORKERS, hours, limit)).removeprefix("DELETE "))
