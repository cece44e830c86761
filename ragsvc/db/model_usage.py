"""The table model_usage: what answers cost. A run's end adds to it, in the statement that stores the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.models.chat import DailyUsage

if TYPE_CHECKING:
    from datetime import date
    from uuid import UUID

    from ragsvc.db.pool import Connection

SELECT_USAGE = """
SELECT day, model, runs, estimated_runs, prompt_tokens, completion_tokens FROM model_usage
WHERE workspace_id = $1 AND day BETWEEN $2 AND $3 ORDER BY day DESC, model
"""


async def select_usage(conn: Connection, workspace_id: UUID, *, first: date, last: date) -> list[DailyUsage]:
    """Return what a workspace's answers cost from day `first` to `last`, newest first."""
    return [DailyUsage(**row) for row in await conn.fetch(SELECT_USAGE, workspace_id, first, last)]
