"""The table queue_state: pauses of the queues, manual or caused by an outage, and queue statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.domain.jobs import Outage, Queue, QueueDepth, RunningJob, SubjectKind

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from ragsvc.db.connections.pool import Connection, Record

UPDATE_PAUSED = """
UPDATE queue_state SET paused = $2, reason = $3, since = now(), code = NULL, probe_at = NULL, probes = 0
WHERE queue = $1 AND ((paused, reason) IS DISTINCT FROM ($2, $3) OR probe_at IS NOT NULL)
"""

OUTAGE_COLUMNS = "queue, code, reason, since"

# An existing pause, manual or not, is unchanged.
BEGIN_OUTAGE = """
UPDATE queue_state SET
    paused = true, reason = $3, since = now(), code = $2, probe_at = now() + make_interval(secs => $4), probes = 0
WHERE queue = $1 AND NOT paused
"""

SELECT_OUTAGE = f"SELECT {OUTAGE_COLUMNS} FROM queue_state WHERE queue = $1 AND probe_at IS NOT NULL"

SELECT_OUTAGES = f"SELECT {OUTAGE_COLUMNS} FROM queue_state WHERE probe_at IS NOT NULL ORDER BY queue"

# The process that advances probe_at makes the probe.
TAKE_PROBE = """
UPDATE queue_state SET
    probes = probes + 1, probe_at = now() + make_interval(secs => least($3, $2 * 2 ^ least(probes + 1, 30)))
WHERE queue = $1 AND probe_at <= now()
"""

END_OUTAGE = """
UPDATE queue_state SET paused = false, reason = NULL, since = now(), code = NULL, probe_at = NULL, probes = 0
WHERE queue = $1 AND since = $2 AND probe_at IS NOT NULL
"""

# Each count reads a partial index, however many jobs have ended. Deliveries wait in a lane of their own.
SELECT_QUEUE_DEPTHS = """
SELECT s.queue, s.paused, s.reason, s.since AS state_since, s.probe_at AS next_probe_at,
    waiting.queued, waiting.ready, waiting.oldest_ready_age_s, active.running, buried.dead,
    buried.dead_for_service, buried.dead_per_minute,
    ended.done_per_minute
FROM queue_state s
CROSS JOIN LATERAL (
    SELECT count(*) AS queued, count(*) FILTER (WHERE run_at <= now()) AS ready,
        extract(epoch FROM now() - min(run_at) FILTER (WHERE run_at <= now()))::float8 AS oldest_ready_age_s
    FROM jobs WHERE queue = s.queue AND status = 'queued' AND kind <> 'deliver') waiting
CROSS JOIN LATERAL (
    SELECT count(*) AS running FROM jobs WHERE queue = s.queue AND status = 'running') active
CROSS JOIN LATERAL (
    SELECT count(*) AS dead, count(*) FILTER (WHERE NOT is_owner_fault) AS dead_for_service,
        count(*) FILTER (WHERE last_failed_at > now() - interval '5 minutes') / 5.0::float8 AS dead_per_minute
    FROM jobs WHERE queue = s.queue AND status = 'dead') buried
CROSS JOIN LATERAL (
    SELECT count(*) / 5.0::float8 AS done_per_minute FROM jobs
    WHERE queue = s.queue AND status = 'done' AND finished_at > now() - interval '5 minutes') ended
ORDER BY s.queue DESC
"""

# Jobs that ended, by queue and interval, the oldest interval first.
SELECT_RATES = """
SELECT s.queue, b.at,
    (SELECT count(*) FROM jobs j WHERE j.queue = s.queue AND j.status = 'done'
        AND j.finished_at >= b.at AND j.finished_at < b.at + $1::interval) AS done,
    (SELECT count(*) FROM jobs j WHERE j.queue = s.queue AND j.status = 'dead'
        AND j.last_failed_at >= b.at AND j.last_failed_at < b.at + $1::interval) AS dead
FROM queue_state s, generate_series(now() - $1::interval * $2::integer, now() - $1::interval, $1::interval) b (at)
ORDER BY s.queue, b.at
"""

SELECT_RUNNING_JOBS = """
SELECT id AS job_id, queue, workspace_id, subject_kind, subject_id, lease_owner AS worker, stage, progress, attempts,
    rescues, extract(epoch FROM now() - claimed_at)::float8 AS running_s,
    extract(epoch FROM lease_until - now())::float8 AS lease_left_s
FROM jobs WHERE queue = $1 AND status = 'running' ORDER BY claimed_at LIMIT $2
"""


async def update_paused(conn: Connection, queue: Queue, *, paused: bool, reason: str | None = None) -> None:
    """Pause or resume a queue manually; running jobs continue."""
    await conn.execute(UPDATE_PAUSED, queue, paused, reason)


async def begin_outage(conn: Connection, queue: Queue, *, code: str, reason: str, probe_in_s: float) -> bool:
    """Pause a queue until its provider is reachable again; return False if it is already paused."""
    return await conn.execute(BEGIN_OUTAGE, queue, code, reason, probe_in_s) == "UPDATE 1"


async def select_outage(conn: Connection, queue: Queue) -> Outage | None:
    """Return the outage for which a queue is paused, or None."""
    row = await conn.fetchrow(SELECT_OUTAGE, queue)
    return _to_outage(row) if row else None


async def select_outages(conn: Connection) -> list[Outage]:
    """Return all current outages."""
    return [_to_outage(row) for row in await conn.fetch(SELECT_OUTAGES)]


async def take_probe(conn: Connection, queue: Queue, *, base_s: float, cap_s: float) -> bool:
    """Claim the next probe of the provider; return False if none is due. The interval doubles up to `cap_s`."""
    return await conn.execute(TAKE_PROBE, queue, base_s, cap_s) == "UPDATE 1"


async def end_outage(conn: Connection, queue: Queue, *, since: datetime) -> bool:
    """Resume a queue after an outage; return False if another process did, or it was paused manually."""
    return await conn.execute(END_OUTAGE, queue, since) == "UPDATE 1"


async def select_queue_depths(conn: Connection) -> list[QueueDepth]:
    """Return the statistics of both queues."""
    rows = await conn.fetch(SELECT_QUEUE_DEPTHS)
    return [QueueDepth(**{**row, "queue": Queue(row["queue"])}) for row in rows]


@dataclass(frozen=True, slots=True)
class Rate:
    """How many jobs of a queue ended in the interval that begins at `at`."""

    queue: Queue
    at: datetime
    done: int
    dead: int


async def select_rates(conn: Connection, *, bucket: timedelta, buckets: int) -> list[Rate]:
    """Return how many jobs ended in each of the last intervals, the oldest first."""
    rows = await conn.fetch(SELECT_RATES, bucket, buckets)
    return [Rate(**{**row, "queue": Queue(row["queue"])}) for row in rows]


async def select_running_jobs(conn: Connection, queue: Queue, *, limit: int) -> list[RunningJob]:
    """Return running jobs, the longest-running first."""
    rows = await conn.fetch(SELECT_RUNNING_JOBS, queue, limit)
    return [
        RunningJob(**{**row, "queue": Queue(row["queue"]), "subject_kind": SubjectKind(row["subject_kind"])})
        for row in rows
    ]


def _to_outage(row: Record) -> Outage:
    return Outage(**{**dict(row.items()), "queue": Queue(row["queue"])})
