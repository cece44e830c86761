"""Creates, lists and deletes a workspace's webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import webhooks, workspaces
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.errors.requests import NotFound, TooManyWebhooks
from ragsvc.webhooks.destinations import check_url

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from ragsvc.domain.webhooks import Webhook
    from ragsvc.resources import Resources

MAX_WEBHOOKS = 20

log = structlog.get_logger(__name__)


async def create_webhook(
    resources: Resources,
    workspace_id: UUID,
    webhook_id: UUID,
    *,
    url: str,
    events: Iterable[WebhookEvent],
    secret: bytes,
) -> Webhook:
    """Add a webhook to the workspace; `secret` signs its deliveries.

    Raises:
        WebhookRefused: the URL is not allowed.
        TooManyWebhooks: the workspace already has MAX_WEBHOOKS webhooks.
    """
    check_url(url, resources.settings)
    async with resources.pool.acquire() as conn, conn.transaction():
        await workspaces.pin_workspace(conn, workspace_id)
        webhook = await webhooks.insert_webhook(
            conn,
            workspace_id,
            webhook_id,
            url=url,
            events=sorted(set(events), key=list(WebhookEvent).index),
            secret=secret,
            max_count=MAX_WEBHOOKS,
        )
        if webhook is None:
            raise TooManyWebhooks(f"A workspace can have at most {MAX_WEBHOOKS} webhooks.")
        await insert_audit_event(
            conn,
            AuditAction.WEBHOOK_CREATED,
            workspace_id=workspace_id,
            subject=(AuditSubject.WEBHOOK, webhook.id),
            details={"url": webhook.url},
        )
    log.info("webhook_created", webhook_id=webhook.id)
    return webhook


async def find_webhook(resources: Resources, workspace_id: UUID, webhook_id: UUID) -> Webhook | None:
    """Return a webhook of the workspace; None if it does not exist."""
    async with resources.pool.acquire() as conn:
        return await webhooks.select_webhook(conn, workspace_id, webhook_id)


async def get_webhook(resources: Resources, workspace_id: UUID, webhook_id: UUID) -> Webhook:
    """Return a webhook of the workspace.

    Raises:
        NotFound: it does not exist.
    """
    webhook = await find_webhook(resources, workspace_id, webhook_id)
    if webhook is None:
        raise NotFound
    return webhook


async def list_webhooks(resources: Resources, workspace_id: UUID, *, before: UUID | None, limit: int) -> list[Webhook]:
    """Return at most `limit` of the workspace's webhooks created before `before`, newest first."""
    async with resources.pool.acquire() as conn:
        return await webhooks.select_webhooks(conn, workspace_id, before=before, limit=limit)


async def delete_webhook(resources: Resources, workspace_id: UUID, webhook_id: UUID) -> None:
    """Delete a webhook; pending deliveries to it are dropped.

    Raises:
        NotFound: it does not exist.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        if not await webhooks.delete_webhook(conn, workspace_id, webhook_id):
            raise NotFound
        await insert_audit_event(
            conn,
            AuditAction.WEBHOOK_DELETED,
            workspace_id=workspace_id,
            subject=(AuditSubject.WEBHOOK, webhook_id),
        )
    log.info("webhook_deleted", webhook_id=webhook_id)
