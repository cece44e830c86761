"""The table webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.webhooks import Webhook, WebhookEvent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection, Record

COLUMNS = "workspace_id, id, url, events, secret, created_at"

# Concurrent inserts can exceed the limit by one, which is harmless.
INSERT_WEBHOOK = f"""
INSERT INTO webhooks (workspace_id, id, url, events, secret)
SELECT $1, $2, $3, $4::text[], $5 WHERE (SELECT count(*) FROM webhooks WHERE workspace_id = $1) < $6
RETURNING {COLUMNS}
"""

SELECT_WEBHOOK = f"SELECT {COLUMNS} FROM webhooks WHERE workspace_id = $1 AND id = $2"

SELECT_WEBHOOKS = f"""
SELECT {COLUMNS} FROM webhooks
WHERE workspace_id = $1 AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
"""

SELECT_LISTENING = "SELECT id FROM webhooks WHERE workspace_id = $1 AND $2::text = ANY (events) ORDER BY id"

DELETE_WEBHOOK = "DELETE FROM webhooks WHERE workspace_id = $1 AND id = $2 RETURNING id"


async def insert_webhook(
    conn: Connection,
    workspace_id: UUID,
    webhook_id: UUID,
    *,
    url: str,
    events: Sequence[WebhookEvent],
    secret: bytes,
    max_count: int,
) -> Webhook | None:
    """Add a webhook; return None if the workspace already has `max_count`."""
    row = await conn.fetchrow(INSERT_WEBHOOK, workspace_id, webhook_id, url, list(events), secret, max_count)
    return _to_webhook(row) if row else None


async def select_webhook(conn: Connection, workspace_id: UUID, webhook_id: UUID) -> Webhook | None:
    """Return a webhook of the workspace."""
    row = await conn.fetchrow(SELECT_WEBHOOK, workspace_id, webhook_id)
    return _to_webhook(row) if row else None


async def select_webhooks(conn: Connection, workspace_id: UUID, *, before: UUID | None, limit: int) -> list[Webhook]:
    """Return at most `limit` webhooks, newest first, older than `before` if given."""
    return [_to_webhook(row) for row in await conn.fetch(SELECT_WEBHOOKS, workspace_id, before, limit)]


async def select_listening(conn: Connection, workspace_id: UUID, event: WebhookEvent) -> list[UUID]:
    """Return the ids of the webhooks that subscribe to the event."""
    return [row["id"] for row in await conn.fetch(SELECT_LISTENING, workspace_id, event)]


async def delete_webhook(conn: Connection, workspace_id: UUID, webhook_id: UUID) -> bool:
    """Remove a webhook; return False if it does not exist."""
    return await conn.fetchval(DELETE_WEBHOOK, workspace_id, webhook_id) is not None


def _to_webhook(row: Record) -> Webhook:
    return Webhook(**{**row, "events": tuple(map(WebhookEvent, row["events"]))})
