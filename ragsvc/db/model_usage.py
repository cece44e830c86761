"""The tables model_usage (chat runs) and embedding_usage.

db/chat_runs.py adds to model_usage in the statement that stores the end of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.usage import DailyUsage, UsageOperation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.usage import EmbeddingUsage

SELECT_USAGE = """
SELECT day, 'chat' AS operation, model, runs, estimated_runs, 0 AS embedding_calls, 0 AS estimated_embedding_calls,
       prompt_tokens, completion_tokens
FROM model_usage WHERE workspace_id = $1 AND day BETWEEN $2 AND $3
UNION ALL
SELECT day, 'embeddings', model, 0, 0, calls, estimated_calls, prompt_tokens, 0
FROM embedding_usage WHERE workspace_id = $1 AND day BETWEEN $2 AND $3
ORDER BY day DESC, operation, model
"""

# All processes add to the same row per workspace and day. Rows are locked in a fixed order, and in the last statement
# of a transaction, since locks last until its end. The workspace is locked first, as in its deletion: a call during the
# deletion waits, and then adds nothing.
ADD_EMBEDDING_USAGE = """
INSERT INTO embedding_usage AS u (workspace_id, day, model, calls, estimated_calls, prompt_tokens)
SELECT w.id, (now() AT TIME ZONE 'UTC')::date, $1, s.calls, s.estimated_calls, s.prompt_tokens
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[])
         AS s (workspace_id, calls, estimated_calls, prompt_tokens)
     JOIN workspaces w ON w.id = s.workspace_id AND w.deletion_id IS NULL
ORDER BY w.id FOR KEY SHARE OF w
ON CONFLICT (workspace_id, day, model) DO UPDATE SET calls = u.calls + excluded.calls,
    estimated_calls = u.estimated_calls + excluded.estimated_calls,
    prompt_tokens = u.prompt_tokens + excluded.prompt_tokens
"""


async def select_usage(conn: Connection, workspace_id: UUID, *, first: date, last: date) -> list[DailyUsage]:
    """Return the usage of a workspace from day `first` to `last`, newest first."""
    rows = await conn.fetch(SELECT_USAGE, workspace_id, first, last)
    return [DailyUsage(**{**row, "operation": UsageOperation(row["operation"])}) for row in rows]


async def add_embedding_usage(conn: Connection, usages: Mapping[UUID, EmbeddingUsage], *, model: str) -> None:
    """Add embedding usage to today's rows of the workspaces; deleted workspaces are skipped.

    In a transaction, this must be the last statement.
    """
    await conn.execute(
        ADD_EMBEDDING_USAGE,
        model,
        list(usages),
        [usage.calls for usage in usages.values()],
        [usage.estimated_calls for usage in usages.values()],
        [usage.prompt_tokens for usage in usages.values()],
    )
