"""The table jobs, by documents: their ingestions, and the deliveries of events about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.ids import format_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection

CANCEL_INGESTIONS = """
UPDATE jobs SET status = 'cancelled', cancel_requested = true, finished_at = now(),
    lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE workspace_id = $1 AND subject_id = ANY($2::uuid[]) AND queue = 'ingestion'
  AND status IN ('queued', 'running', 'dead')
"""

# The next delivery of each webhook that has none in flight. The recursion skips from webhook to webhook in the index,
# so the backlog of one webhook is not read.
SELECT_NEXT_DELIVERIES = """
WITH RECURSIVE waiting AS (
    (SELECT payload ->> 'webhook_id' AS webhook_id FROM jobs WHERE status = 'queued' AND kind = 'deliver'
     ORDER BY 1 LIMIT 1)
  UNION ALL
    SELECT (SELECT payload ->> 'webhook_id' FROM jobs WHERE status = 'queued' AND kind = 'deliver'
            AND payload ->> 'webhook_id' > waiting.webhook_id ORDER BY 1 LIMIT 1)
    FROM waiting WHERE waiting.webhook_id IS NOT NULL
)
SELECT next.id FROM waiting CROSS JOIN LATERAL (
    SELECT id, run_at FROM jobs
    WHERE status = 'queued' AND kind = 'deliver' AND payload ->> 'webhook_id' = waiting.webhook_id AND run_at <= now()
    ORDER BY run_at, id LIMIT 1
) next
WHERE NOT EXISTS (
    SELECT FROM jobs r WHERE r.queue = 'deletion' AND r.status = 'running' AND r.kind = 'deliver'
      AND r.payload ->> 'webhook_id' = waiting.webhook_id)
  AND NOT EXISTS (SELECT FROM queue_state q WHERE q.queue = 'deletion' AND q.paused)
ORDER BY next.run_at LIMIT $1
"""

# A document that is locked and marked as being deleted has no running ingestion.
DELETE_INGESTIONS = "DELETE FROM jobs WHERE workspace_id = $1 AND subject_id = ANY($2::uuid[]) AND queue = 'ingestion'"

COUNT_INGESTIONS = """
SELECT count(*) FROM jobs WHERE workspace_id = $1 AND subject_id = ANY($2::uuid[]) AND queue = 'ingestion'
"""

_DELIVERED = """
FROM jobs WHERE workspace_id = $1 AND kind = 'deliver' AND payload -> 'data' ->> 'document_id' = ANY($2::text[])
    AND payload ->> 'event' <> 'document.deleted' AND status NOT IN ('queued', 'running')
"""

DELETE_DELIVERIES_ABOUT = f"DELETE {_DELIVERED}"

COUNT_DELIVERIES_ABOUT = f"SELECT count(*) {_DELIVERED}"


async def cancel_ingestions(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> None:
    """Cancel the ingestions of documents, and settle those that failed; the documents must be locked."""
    await conn.execute(CANCEL_INGESTIONS, workspace_id, document_ids)


async def select_next_deliveries(conn: Connection, *, limit: int) -> list[UUID]:
    """Return the ids of due deliveries, at most one for each webhook and none for a webhook with one in flight."""
    return [row["id"] for row in await conn.fetch(SELECT_NEXT_DELIVERIES, limit)]


async def delete_ingestions(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> int:
    """Remove the ingestion jobs of documents whose ingestions have been cancelled, and return their number."""
    status = await conn.execute(DELETE_INGESTIONS, workspace_id, document_ids)
    return int(status.removeprefix("DELETE "))


async def count_ingestions(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> int:
    """Return the number of ingestion jobs of documents."""
    count: int = await conn.fetchval(COUNT_INGESTIONS, workspace_id, document_ids)
    return count


async def delete_deliveries_about(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> int:
    """Remove the ended deliveries of events about documents, except about their deletion; return their number."""
    status = await conn.execute(DELETE_DELIVERIES_ABOUT, workspace_id, _public(document_ids))
    return int(status.removeprefix("DELETE "))


async def count_deliveries_about(conn: Connection, workspace_id: UUID, document_ids: Sequence[UUID]) -> int:
    """Return the number of deliveries that `delete_deliveries_about` would remove."""
    count: int = await conn.fetchval(COUNT_DELIVERIES_ABOUT, workspace_id, _public(document_ids))
    return count


def _public(document_ids: Sequence[UUID]) -> list[str]:
    return [format_id("doc", document_id) for document_id in document_ids]
