"""Delivers one event to one webhook."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import aiohttp
import orjson
import structlog

from ragsvc.db import jobs, webhooks
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import DeliverPayload
from ragsvc.errors.requests import WebhookRefused
from ragsvc.errors.work import ProviderRejected, TransientFailure
from ragsvc.webhooks.destinations import check_url
from ragsvc.webhooks.signing import sign

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job
    from ragsvc.domain.webhooks import Webhook
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources

# Receivers are expected to acknowledge first and process later.
TIMEOUT_S = 10.0
GONE = 410
MAX_RETRY_AFTER_S = 3600.0

log = structlog.get_logger(__name__)


async def deliver(resources: Resources, lease: Lease) -> None:
    """Send the event and finish the job; a webhook deleted in the meantime receives nothing.

    Delivery is at least once: if a worker dies between the receiver's response and the commit, the event is sent again
    under the same id.

    Raises:
        LeaseLost: another worker has the job.
        TransientFailure: the receiver is unreachable or responded with an error.
        ProviderRejected: the receiver responded 410, or its origin is no longer allowed.
    """
    job = lease.job
    payload = DeliverPayload.from_json(job.payload)
    async with resources.pool.acquire() as conn:
        webhook = await webhooks.select_webhook(conn, job.workspace_id, payload.webhook_id)
    if webhook is not None:
        try:
            check_url(webhook.url, resources.settings)
        except WebhookRefused as refused:
            raise ProviderRejected("webhook_refused", refused.detail) from None
        await _send(webhook, job, payload)
    async with resources.pool.acquire() as conn, conn.transaction():
        await lease.fence(conn)
        await jobs.finish_job(conn, job)


async def _send(webhook: Webhook, job: Job, payload: DeliverPayload) -> None:
    body = orjson.dumps(
        {
            "type": payload.event,
            "timestamp": job.created_at,
            "workspace_id": format_id("ws", job.workspace_id),
            "data": payload.data,
        },
        option=orjson.OPT_UTC_Z,
    )
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ragsvc",
        **sign(webhook.secret, body, delivery_id=format_id("dlv", job.id), sent_at_s=int(time.time())),
    }
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.post(webhook.url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            _check_status(response)
    except (aiohttp.ClientError, TimeoutError) as error:
        detail = f"the receiver cannot be reached: {type(error).__name__}"
        raise TransientFailure("webhook_unreachable", detail) from error
    log.info("webhook_delivered", webhook_id=webhook.id, webhook_event=payload.event, status=response.status)


def _check_status(response: aiohttp.ClientResponse) -> None:
    """Check the status; the rest of the response is ignored."""
    if response.ok and response.status < 300:  # noqa: PLR2004 - redirects are not followed, so 3xx is a failure
        return
    detail = f"the receiver responded with {response.status}"
    if response.status == GONE:
        raise ProviderRejected("webhook_gone", detail, http_status=response.status)
    raise TransientFailure(
        "webhook_failed", detail, retry_after_s=_read_retry_after_s(response), http_status=response.status
    )


def _read_retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    seconds = response.headers.get("Retry-After", "")
    return min(float(seconds), MAX_RETRY_AFTER_S) if seconds.isdigit() else None
