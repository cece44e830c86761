"""Announces document changes to webhooks: one delivery job per webhook, added in the transaction of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import jobs, webhooks
from ragsvc.domain.ids import format_id, new_id
from ragsvc.domain.jobs import DeliverPayload, JobKind, Queue, SubjectKind

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.webhooks import WebhookEvent

# With the default backoff, the last attempt comes about 15 minutes after the first.
MAX_ATTEMPTS = 12


async def announce(
    conn: Connection, event: WebhookEvent, *, workspace_id: UUID, document_id: UUID, **details: object
) -> None:
    """Add a delivery job for each webhook that subscribes to the event; deletion workers look for them.

    `details` become part of the event's data and must not contain text of the document.
    """
    data = {"document_id": format_id("doc", document_id), **details}
    for webhook_id in await webhooks.select_listening(conn, workspace_id, event):
        delivery_id = new_id()
        await jobs.insert_job(
            conn,
            workspace_id,
            delivery_id,
            # Deliveries share the processes of deletions, but not their slots (ragsvc/workers/deliveries.py).
            queue=Queue.DELETION,
            kind=JobKind.DELIVER,
            subject_kind=SubjectKind.DELIVERY,
            subject_id=delivery_id,
            payload=DeliverPayload(webhook_id, event, data).to_json(),
            max_attempts=MAX_ATTEMPTS,
            trace_id=None,
        )
