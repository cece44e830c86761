"""Outages: a queue is paused while a provider is unavailable, so that jobs neither fail in vain nor lose attempts.

    job fails ──▶ probe ──▶ no reply ──▶ queue paused ──▶ probe with backoff ──▶ reply ──▶ queue resumed

A probe is the smallest real call to the provider (the half-open state of a circuit breaker; M. Nygard, "Release It!",
2007), so no document spends an attempt on it. A job that has waited OUTAGE_MAX_AGE_S becomes a dead letter, so no
job waits forever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import overdue_jobs, queue_state
from ragsvc.errors.work import OutageFailure, TransientFailure
from ragsvc.jobs import dead_letters, lifecycle, retry_policy
from ragsvc.jobs.retry_policy import FailureClass, Provider
from ragsvc.telemetry.sweep_items import sweep_each

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Job, Outage, Queue
    from ragsvc.jobs.retry_policy import Failure
    from ragsvc.resources import Resources

# This many jobs with the same failure within the window, and none done, look like an outage.
SAME_FAILURE_JOBS = 10
SAME_FAILURE_WINDOW_S = 60.0
PROBE_TIMEOUT_S = 5.0
# Longest interval between probes, so that the end of a long outage is noticed soon.
PROBE_CAP_S = 30.0
BATCH = 500

log = structlog.get_logger(__name__)


async def check_failure(resources: Resources, queue: Queue, failure: Failure) -> None:
    """Pause the queue if a failure of one of its jobs turns out to be an outage of its provider."""
    provider = retry_policy.provider_of(failure)
    if provider is None or not await _is_suspicious(resources, queue, failure):
        return
    if await is_available(resources, provider):
        return
    settings = resources.settings
    async with resources.pool.acquire() as conn:
        paused = await queue_state.begin_outage(
            conn, queue, code=failure.code, reason=failure.message, probe_in_s=settings.jobs.backoff_base_s
        )
    if paused:
        log.warning("queue_paused", queue=queue, code=failure.code, reason=failure.message)


async def sweep_outages(resources: Resources) -> None:
    """Probe unavailable providers, resume the queues of those that reply, and bury jobs that have waited too long.

    Only one process sends each probe.
    """
    async with resources.pool.acquire() as conn:
        outages = await queue_state.select_outages(conn)
    for outage in outages:
        if not await _take_probe(resources, outage):
            continue
        if await is_available(resources, Provider.of_code(outage.code)):
            await _end(resources, outage)
        else:
            await _bury_stranded(resources, outage)


async def is_available(resources: Resources, provider: Provider) -> bool:
    """Return whether the provider replies; an error that refuses the request counts as a reply."""
    ping = resources.llm.ping if provider is Provider.EMBEDDING else resources.storage.ping
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await ping()
    except (OutageFailure, TransientFailure, TimeoutError):
        return False
    except Exception as error:  # noqa: BLE001 - the provider replied, and the jobs will report why it refuses
        log.info("probe_refused", provider=provider, error=error)
    return True


async def _is_suspicious(resources: Resources, queue: Queue, failure: Failure) -> bool:
    if failure.kind is FailureClass.OUTAGE:
        return True
    async with resources.pool.acquire() as conn:
        alike = await overdue_jobs.count_alike(conn, queue=queue, code=failure.code, within_s=SAME_FAILURE_WINDOW_S)
    return alike >= SAME_FAILURE_JOBS


async def _take_probe(resources: Resources, outage: Outage) -> bool:
    settings = resources.settings
    cap_s = min(settings.jobs.backoff_cap_s, PROBE_CAP_S)
    async with resources.pool.acquire() as conn:
        return await queue_state.take_probe(conn, outage.queue, base_s=settings.jobs.backoff_base_s, cap_s=cap_s)


async def _end(resources: Resources, outage: Outage) -> None:
    async with resources.pool.acquire() as conn:
        ended = await queue_state.end_outage(conn, outage.queue, since=outage.since)
    if ended:
        log.info("queue_resumed", queue=outage.queue, code=outage.code)


async def _bury_stranded(resources: Resources, outage: Outage) -> None:
    max_age_s = resources.settings.jobs.outage_max_age_s
    async with resources.pool.acquire() as conn:
        stranded = await overdue_jobs.select_stranded_jobs(
            conn, queue=outage.queue, since=outage.since, max_age_s=max_age_s, limit=BATCH
        )

    async def bury(job: Job) -> None:
        dead = await lifecycle.give_up(resources.pool, job, retry_policy.outage_expired(outage))
        if dead is not None:
            log.warning("job_failed", job_id=job.id, outcome=dead.status, code=outage.code)
            await dead_letters.post(resources, dead)

    await sweep_each(stranded, bury, kind="job")
