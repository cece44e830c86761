"""Ended jobs in the table jobs, which are removed after some time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection

DELETE_ENDED_JOBS = """
DELETE FROM jobs WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM jobs
    WHERE status IN ('done', 'discarded', 'superseded', 'cancelled') AND finished_at < now() - make_interval(days => $1)
    ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED))
"""

# The dead letter of a deletion stays until the deletion has succeeded.
DELETE_OLD_DEAD_JOBS = """
DELETE FROM jobs WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM jobs
    WHERE queue = ANY (ARRAY['ingestion', 'deletion']) AND status = 'dead' AND kind <> 'delete'
      AND last_failed_at < now() - make_interval(days => $1)
    LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


async def delete_ended_jobs(conn: Connection, *, days: int, limit: int) -> int:
    """Remove jobs that ended without a dead letter more than `days` days ago and return their number."""
    return int((await conn.execute(DELETE_ENDED_JOBS, days, limit)).removeprefix("DELETE "))


async def delete_old_dead_jobs(conn: Connection, *, days: int, limit: int) -> int:
    """Remove dead letters older than `days` days, except those of deletions, and return their number."""
    return int((await conn.execute(DELETE_OLD_DEAD_JOBS, days, limit)).removeprefix("DELETE "))
