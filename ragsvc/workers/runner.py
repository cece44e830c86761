"""The runner of every job: claim, lease, time limit, and the handling of failures and shutdown."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from prometheus_client import start_http_server

from ragsvc.domain.jobs import JobStatus, Queue
from ragsvc.errors.base import StartupRefused
from ragsvc.errors.work import LeaseLost, SubjectGone
from ragsvc.jobs import dead_letters, lifecycle, outages, retry_policy
from ragsvc.jobs.lease import Lease
from ragsvc.preflight import warn_of_faults
from ragsvc.queue.connection import queue_name
from ragsvc.resources import open_resources
from ragsvc.sweeper import run_sweeper
from ragsvc.tasks import cancel_and_wait
from ragsvc.telemetry.metrics import REGISTRY
from ragsvc.telemetry.traces import configure_traces
from ragsvc.workers.attempts import Attempt, Outcome, track_attempt
from ragsvc.workers.presence import present

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ragsvc.domain.jobs import Job
    from ragsvc.jobs.retry_policy import Failure
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

# Connections in addition to those of the jobs, for renewing leases, reporting and sweeping.
SPARE_CONNECTIONS = 4

# Rescues without progress after which a job fails with `crash_loop`, since it probably kills its workers.
MAX_RESCUES = 3

log = structlog.get_logger(__name__)


def concurrency(settings: Settings, queue: Queue) -> int:
    """Return the number of jobs of the queue that one worker process runs concurrently."""
    return settings.jobs.ingestion_concurrency if queue is Queue.INGESTION else settings.jobs.deletion_concurrency


async def start(ctx: dict[str, Any], *, queue: Queue) -> AsyncExitStack:
    """Open the worker's resources into arq's context and return the stack that closes them."""
    settings: Settings = ctx["settings"]
    # Set first, because arq calls `stop` even if this function raises.
    stack = ctx["stack"] = AsyncExitStack()
    _serve_metrics(settings, stack)
    pool_size = 3 * concurrency(settings, queue) + SPARE_CONNECTIONS
    try:
        configure_traces(settings, service=f"ragsvc-{queue}")
        resources = await stack.enter_async_context(open_resources(settings, pool_size=pool_size))
    except StartupRefused as refused:
        raise SystemExit(f"ragsvc: {refused.detail}") from None
    for chore in (warn_of_faults, run_sweeper):
        stack.push_async_callback(cancel_and_wait, asyncio.create_task(chore(resources)))
    # Exempt the loaded libraries from garbage collection, which would traverse their objects again and again.
    gc.collect()
    gc.freeze()
    ctx.update(resources=resources, queue=queue, owner=f"{socket.gethostname()}:{os.getpid()}")
    await stack.enter_async_context(present(ctx, concurrency=concurrency(settings, queue)))
    log.info("worker_started", queue=queue_name(settings, queue), concurrency=concurrency(settings, queue))
    return stack


def _serve_metrics(settings: Settings, stack: AsyncExitStack) -> None:
    """Serve the metrics on METRICS_PORT, if it is set, in a thread, so that they work even if the loop is stuck."""
    if settings.api.metrics_port is None:
        return
    try:
        server, thread = start_http_server(settings.api.metrics_port, settings.api.host, REGISTRY)
    except OSError as error:
        address = f"{settings.api.host}:{settings.api.metrics_port}"
        raise SystemExit(f"ragsvc: METRICS_PORT: cannot listen on {address}: {error}") from None
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    log.info("metrics_started", host=settings.api.host, port=server.server_port)


async def stop(ctx: dict[str, Any]) -> None:
    """Close what `start` opened."""
    await ctx["stack"].aclose()
    log.info("worker_stopped")


async def run_job(
    ctx: dict[str, Any], job_id: str, work: Callable[[Resources, Lease], Awaitable[None]], *, delivers: bool = False
) -> None:
    """Claim the job and do its work; every outcome is stored in the job's row. `delivers` is for the claim.

    `work` marks the job as done itself, in the transaction that makes its result visible.
    """
    resources: Resources = ctx["resources"]
    with structlog.contextvars.bound_contextvars(job_id=_read_job_id(job_id)):
        job = await _claim(resources, job_id, queue=ctx["queue"], owner=ctx["owner"], delivers=delivers)
        if job is None:
            return
        with track_attempt(job) as attempt:
            await _run(ctx, job, attempt, work)


async def _run(
    ctx: dict[str, Any], job: Job, attempt: Attempt, work: Callable[[Resources, Lease], Awaitable[None]]
) -> None:
    resources: Resources = ctx["resources"]
    if job.rescues > MAX_RESCUES:
        await _settle(resources, job, attempt, retry_policy.crash_loop(job))
        return
    lease = Lease(resources.pool, job, resources.settings)
    try:
        async with lease.renewed(), lease.time_limited():
            await work(resources, lease)
    except LeaseLost:
        _record_lost_lease(attempt)
    except SubjectGone as gone:
        await _cancel(resources, job, attempt, reason=gone.detail)
    except asyncio.CancelledError as error:
        if not ctx["stopping"].is_set():
            await _settle(resources, job, attempt, retry_policy.classify(error))
            return
        await asyncio.shield(_hand_back(resources, job, attempt))
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: every failure is stored with the job
        await _settle(resources, job, attempt, retry_policy.classify(error))
    else:
        attempt.outcome = Outcome.DONE
        log.info("job_finished", attempts=job.attempts)


def _record_lost_lease(attempt: Attempt) -> None:
    attempt.outcome = Outcome.LEASE_LOST
    log.warning("job_lease_lost")


def _read_job_id(text: str) -> UUID | str:
    """Return the id in a notification, or its text if that is not a UUID; `_claim` then refuses it."""
    try:
        return UUID(text)
    except ValueError:
        return text


async def _claim(resources: Resources, job_id: str, *, queue: Queue, owner: str, delivers: bool) -> Job | None:
    lease_s = resources.settings.jobs.job_lease_s
    try:
        return await lifecycle.claim(
            resources.pool, UUID(job_id), queue=queue, owner=owner, lease_s=lease_s, delivers=delivers
        )
    except Exception as error:  # noqa: BLE001 - the row is unchanged, and the sweeper sends another notification
        log.warning("job_not_claimed", error=error)
        return None


async def _settle(resources: Resources, job: Job, attempt: Attempt, failure: Failure) -> None:
    """Store the failure; if that fails too, the lease expires and the job is rescued."""
    attempt.code = failure.code
    try:
        settled = await lifecycle.fail(resources.pool, job, failure, settings=resources.settings)
    except Exception as error:  # noqa: BLE001 - the lease expires, and the job is rescued
        log.warning("job_failure_not_stored", error=error)
        return
    if settled is None:
        _record_lost_lease(attempt)
        return
    attempt.outcome = Outcome.DEAD if settled.status is JobStatus.DEAD else Outcome.RETRIED
    report = log.error if failure.kind is retry_policy.FailureClass.UNKNOWN else log.warning
    report(
        "job_failed",
        outcome=settled.status,
        code=failure.code,
        error=failure.message,
        attempts=settled.attempts,
        traceback=failure.traceback if failure.kind is retry_policy.FailureClass.UNKNOWN else None,
    )
    if settled.status is JobStatus.DEAD:
        await dead_letters.post(resources, settled)
    else:
        await resources.notifier.notify(settled)
        await _check_for_outage(resources, settled.queue, failure)


async def _check_for_outage(resources: Resources, queue: Queue, failure: Failure) -> None:
    try:
        await outages.check_failure(resources, queue, failure)
    except Exception as error:  # noqa: BLE001 - the job is settled, and the next failure checks again
        log.warning("outage_check_failed", error=error)


async def _cancel(resources: Resources, job: Job, attempt: Attempt, *, reason: str) -> None:
    try:
        is_cancelled = await lifecycle.cancel(resources.pool, job)
    except Exception as error:  # noqa: BLE001 - the lease expires, and the job is rescued
        log.warning("job_not_cancelled", error=error)
        return
    if not is_cancelled:
        _record_lost_lease(attempt)
        return
    attempt.outcome = Outcome.CANCELLED
    log.info("job_cancelled", reason=reason)


async def _hand_back(resources: Resources, job: Job, attempt: Attempt) -> None:
    try:
        queued = await lifecycle.hand_back(resources.pool, job)
    except Exception as error:  # noqa: BLE001 - the lease expires, and the job is rescued
        log.warning("job_not_handed_back", error=error)
        return
    if queued is not None:
        attempt.outcome = Outcome.HANDED_BACK
        await resources.notifier.notify(queued)
        log.info("job_handed_back")
