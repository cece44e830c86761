"""The table queue_state: which queue is paused; a flushed Redis unpauses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragsvc.db.pool import Connection
    from ragsvc.models.jobs import Queue

UPDATE_PAUSED = """
UPDATE queue_state SET paused = $2, reason = $3, since = now()
WHERE queue = $1 AND (paused, reason) IS DISTINCT FROM ($2, $3)
"""


async def update_paused(conn: Connection, queue: Queue, *, paused: bool, reason: str | None = None) -> None:
    """Pause or resume a queue; jobs that run go on."""
    await conn.execute(UPDATE_PAUSED, queue, paused, reason)
