"""Document events are delivered to the workspace's webhooks at least once, and only to them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.db import dead_jobs, jobs, webhooks
from ragsvc.deletion.requests import request_document_deletion
from ragsvc.domain.ids import format_id, new_id
from ragsvc.domain.jobs import DeadLetterFilter, JobStatus, Queue
from ragsvc.domain.webhooks import WebhookEvent
from ragsvc.jobs import lifecycle, retry_policy
from ragsvc.jobs.sweeper import sweep_jobs
from ragsvc.tasks import in_background
from ragsvc.webhooks.delivery import deliver
from ragsvc.workers.deletion import delete_subject
from ragsvc.workers.deliveries import DeliveryLane
from ragsvc.workers.runner import run_job
from tests.support.documents.builds import ready_document
from tests.support.documents.deletions import deletion_job
from tests.support.documents.documents import accept, job_of, reload_job
from tests.support.workspaces import create_workspace
from tests.webhooks.receiver import SLOW_PATH, Receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ragsvc.domain.jobs import Job
    from ragsvc.domain.webhooks import Webhook
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.jobs.lease import Lease
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

RECEIVED_WITHIN_S = 60.0
SELECT_DUE_DELIVERIES = (
    "SELECT id FROM jobs WHERE kind = 'deliver' AND status = 'queued' AND run_at <= now() ORDER BY id"
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    opened = Receiver()
    async with opened.server:
        yield opened


@pytest.fixture
def settings(settings: Settings, receiver: Receiver) -> Settings:
    return settings.changed({"webhook_allowed_origins": receiver.origin})


async def add_webhook(
    resources: Resources, workspace: Workspace, url: str, *, events: Sequence[WebhookEvent] = tuple(WebhookEvent)
) -> Webhook:
    async with resources.pool.acquire() as conn:
        webhook = await webhooks.insert_webhook(
            conn, workspace.id, new_id(), url=url, events=events, secret=b"s" * 32, max_count=20
        )
    assert webhook is not None
    return webhook


def worker_context(resources: Resources, **settings: object) -> dict[str, Any]:
    changed = replace(resources, settings=resources.settings.changed({"backoff_base_s": 1e-6, **settings}))
    return {"resources": changed, "queue": Queue.DELETION, "owner": "worker-1", "stopping": asyncio.Event()}


async def select_due_deliveries(resources: Resources) -> list[Job]:
    async with resources.pool.acquire() as conn:
        found = [await jobs.select_job(conn, row["id"]) for row in await conn.fetch(SELECT_DUE_DELIVERIES)]
    return [job for job in found if job is not None]


async def deliver_due_events(resources: Resources, **settings: object) -> list[Job]:
    """Deliver the due events as the worker does, and return the jobs afterwards."""
    waiting = await select_due_deliveries(resources)
    for job in waiting:
        await run_job(worker_context(resources, **settings), str(job.id), deliver, delivers=True)
    return [await reload_job(resources, job) for job in waiting]


async def fail_document(resources: Resources, workspace: Workspace) -> Job:
    job = await lifecycle.claim(
        resources.pool,
        (await job_of(resources, await accept(resources, workspace))).id,
        queue=Queue.INGESTION,
        owner="w",
        lease_s=60,
    )
    assert job is not None
    dead = await lifecycle.fail(resources.pool, job, retry_policy.crash_loop(job), settings=resources.settings)
    assert dead is not None
    return dead


async def test_a_documents_outcome_is_delivered(resources: Resources, workspace: Workspace, receiver: Receiver) -> None:
    webhook = await add_webhook(resources, workspace, f"{receiver.origin}/hooks?a=b")
    document = await ready_document(resources, workspace)
    assert [job.status for job in await deliver_due_events(resources)] == [JobStatus.DONE]
    (ready,) = receiver.received
    assert ready.is_signed_by(webhook)
    assert ready.json["type"] == "document.ready"
    assert ready.json["workspace_id"] == format_id("ws", workspace.id)
    assert ready.json["data"] == {"document_id": format_id("doc", document.id), "version": 1}

    failed = await fail_document(resources, workspace)
    await deliver_due_events(resources)
    assert receiver.received[-1].json["type"] == "document.failed"
    assert receiver.received[-1].json["data"] == {
        "document_id": format_id("doc", failed.subject_id),
        "error": {"code": "crash_loop", "retryable": False},
    }

    deletion = await request_document_deletion(resources, workspace.id, document.id, purge_file=True)
    await delete_subject(worker_context(resources), str((await deletion_job(resources, deletion)).id))
    await deliver_due_events(resources)
    assert receiver.event_types == ["document.ready", "document.failed", "document.deleted"]
    assert receiver.received[-1].json["data"] == {"document_id": format_id("doc", document.id)}
    assert await select_due_deliveries(resources) == []


async def test_each_webhook_receives_only_its_events(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, f"{receiver.origin}/one", events=[WebhookEvent.DOCUMENT_READY])
    await add_webhook(resources, workspace, f"{receiver.origin}/two", events=[WebhookEvent.DOCUMENT_FAILED])
    await add_webhook(resources, workspace, f"{receiver.origin}/three")
    await ready_document(resources, workspace)
    assert len(await deliver_due_events(resources)) == 2
    assert receiver.event_types == ["document.ready"] * 2
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 2


async def test_a_failed_delivery_is_retried_under_the_same_id(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, receiver.origin)
    receiver.respond_with(500, 404)
    await ready_document(resources, workspace)
    statuses = [(job.status, job.attempts) for _ in range(3) for job in await deliver_due_events(resources)]
    assert statuses == [(JobStatus.QUEUED, 1), (JobStatus.QUEUED, 2), (JobStatus.DONE, 3)]
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1


async def test_a_receivers_retry_after_is_respected(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, receiver.origin)
    receiver.respond_with(503, headers={"Retry-After": "120"})
    await ready_document(resources, workspace)
    (job,) = await deliver_due_events(resources)
    assert job.claimed_at is not None
    assert (job.run_at - job.claimed_at).total_seconds() >= 120


async def test_a_410_becomes_a_dead_letter_that_can_be_replayed(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, receiver.origin)
    receiver.respond_with(410)
    await ready_document(resources, workspace)
    (job,) = await deliver_due_events(resources)
    assert job.status is JobStatus.DEAD
    assert job.error is not None
    assert job.error["code"] == "webhook_gone"
    async with resources.pool.acquire() as conn:
        (dead,) = await dead_jobs.select_dead_jobs(conn, Queue.DELETION, DeadLetterFilter(), limit=10, offset=0)
        assert await dead_jobs.replay_job(conn, dead) is not None
    assert [job.status for job in await deliver_due_events(resources)] == [JobStatus.DONE]


async def test_an_unreachable_receiver_is_retried(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, receiver.origin)
    await ready_document(resources, workspace)
    await receiver.server.close()
    (job,) = await deliver_due_events(resources)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 1)
    assert job.error is not None
    assert job.error["code"] == "webhook_unreachable"


async def test_a_redirect_is_not_followed(resources: Resources, workspace: Workspace, receiver: Receiver) -> None:
    elsewhere = Receiver()
    async with elsewhere.server:
        await add_webhook(resources, workspace, receiver.origin)
        receiver.respond_with(307, headers={"Location": elsewhere.origin})
        await ready_document(resources, workspace)
        (job,) = await deliver_due_events(resources)
        assert (job.status, len(receiver.received), elsewhere.received) == (JobStatus.QUEUED, 1, [])


async def test_an_origin_that_is_no_longer_listed_receives_nothing(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, receiver.origin)
    await ready_document(resources, workspace)
    (job,) = await deliver_due_events(resources, webhook_allowed_origins="https://elsewhere.example")
    assert (job.status, receiver.received) == (JobStatus.DEAD, [])
    assert job.error is not None
    assert job.error["code"] == "webhook_refused"


async def test_a_deleted_webhook_receives_nothing(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    webhook = await add_webhook(resources, workspace, receiver.origin)
    await ready_document(resources, workspace)
    async with resources.pool.acquire() as conn:
        assert await webhooks.delete_webhook(conn, workspace.id, webhook.id)
    assert [job.status for job in await deliver_due_events(resources)] == [JobStatus.DONE]
    assert receiver.received == []


async def test_a_worker_that_dies_after_the_response_delivers_again_under_the_same_id(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, receiver.origin)
    await ready_document(resources, workspace)
    (job,) = await select_due_deliveries(resources)

    async def deliver_and_lose(resources: Resources, lease: Lease) -> None:
        lose = "UPDATE jobs SET lease_until = now(), lease_token = gen_random_uuid() WHERE id = $1"
        async with resources.pool.acquire() as conn:
            await conn.execute(lose, job.id)
        await deliver(resources, lease)

    await run_job(worker_context(resources), str(job.id), deliver_and_lose, delivers=True)
    assert (await reload_job(resources, job)).status is JobStatus.RUNNING
    await run_job(worker_context(resources), str(job.id), deliver, delivers=True)
    assert (await reload_job(resources, job)).status is JobStatus.DONE
    assert len(receiver.received) == 2
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1


async def test_a_delivery_never_takes_a_slot_of_deletions(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, receiver.origin)
    await ready_document(resources, workspace)
    (job,) = await select_due_deliveries(resources)
    assert not await resources.notifier.notify(job)
    async with resources.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET run_at = now() - interval '1 hour' WHERE id = $1", job.id)
    assert await sweep_jobs(resources) == 0
    assert await resources.notifier.pending(Queue.DELETION, limit=10) == []
    await delete_subject(worker_context(resources), str(job.id))
    assert (await reload_job(resources, job)).status is JobStatus.QUEUED
    assert receiver.received == []


async def test_a_slow_receiver_delays_no_other_webhook_and_gets_one_event_at_a_time(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    other = await create_workspace(resources.pool, resources.storage, resources.settings)
    await add_webhook(resources, workspace, f"{receiver.origin}{SLOW_PATH}")
    await add_webhook(resources, other, f"{receiver.origin}/fast")
    for _ in range(3):
        await ready_document(resources, workspace)
    await ready_document(resources, other)
    ctx = worker_context(resources)
    async with in_background(DeliveryLane(ctx).run()):
        async with asyncio.timeout(RECEIVED_WITHIN_S):
            await receiver.wait_for("/fast")
            await receiver.wait_for(SLOW_PATH)
        await ready_document(resources, other)
        async with asyncio.timeout(RECEIVED_WITHIN_S):
            await receiver.wait_for("/fast", count=2)
        assert receiver.paths.count(SLOW_PATH) == 1
        ctx["stopping"].set()
    # What was in flight was handed back.
    waiting = [job for job in await select_due_deliveries(resources) if job.workspace_id == workspace.id]
    assert len(waiting) == 3
    receiver.release.set()


async def test_events_are_delivered_in_their_order_and_all_of_them(
    resources: Resources, workspace: Workspace, receiver: Receiver
) -> None:
    await add_webhook(resources, workspace, receiver.origin)
    ready = [await ready_document(resources, workspace) for _ in range(3)]
    async with in_background(DeliveryLane(worker_context(resources)).run()), asyncio.timeout(RECEIVED_WITHIN_S):
        await receiver.wait_for("/", count=3)
    received = [one.json["data"]["document_id"] for one in receiver.received]
    assert received == [format_id("doc", document.id) for document in ready]
