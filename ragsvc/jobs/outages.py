"""Outages: while a provider is away its queue is paused, so that nothing is tried in vain and no attempt is charged.

    job fails ──▶ provider asked ──▶ no answer ──▶ queue paused ──▶ asked again, ever later ──▶ answer ──▶ queue resumed

The question is the smallest real call to that provider (the half-open state of a circuit breaker; M. Nygard, "Release
It!", 2007), so it costs no document its attempt. A job that waited OUTAGE_MAX_AGE_S is a dead letter: nothing waits
for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ragsvc.db import jobs, queue_state
from ragsvc.errors import OutageFailure, TransientFailure
from ragsvc.jobs import dead_letters, lifecycle, retry_policy
from ragsvc.jobs.retry_policy import FailureClass, Provider

if TYPE_CHECKING:
    from ragsvc.domain.jobs import Outage, Queue
    from ragsvc.jobs.retry_policy import Failure
    from ragsvc.resources import Resources

# So many jobs that failed alike within a minute, and none that got done, look like an outage.
ALIKE_JOBS = 10
ALIKE_WITHIN_S = 60.0
PROBE_TIMEOUT_S = 5.0
# However long an outage lasts, its end is noticed this soon.
PROBE_CAP_S = 30.0
BATCH = 500

log = structlog.get_logger(__name__)


async def watch(resources: Resources, queue: Queue, failure: Failure) -> None:
    """Pause the queue when a failure of one of its jobs turns out to be an outage."""
    provider = retry_policy.provider_of(failure)
    if provider is None or not await _is_suspicious(resources, queue, failure):
        return
    if await answers(resources, provider):
        return
    settings = resources.settings
    async with resources.pool.acquire() as conn:
        paused = await queue_state.begin_outage(
            conn, queue, code=failure.code, reason=failure.message, probe_in_s=settings.jobs.backoff_base_s
        )
    if paused:
        log.warning("queue_paused", queue=queue, code=failure.code, reason=failure.message)


async def sweep_outages(resources: Resources) -> None:
    """Ask the providers that are away, resume the queues of those that answer, and bury what waited too long.

    Each question is asked by one process.
    """
    async with resources.pool.acquire() as conn:
        outages = await queue_state.select_outages(conn)
    for outage in outages:
        if not await _take_probe(resources, outage):
            continue
        if await answers(resources, Provider.of_code(outage.code)):
            await _end(resources, outage)
        else:
            await _bury_stranded(resources, outage)


async def answers(resources: Resources, provider: Provider) -> bool:
    """Tell whether the provider answers, be it with a refusal."""
    ping = resources.llm.ping if provider is Provider.EMBEDDING else resources.storage.ping
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await ping()
    except (OutageFailure, TransientFailure, TimeoutError):
        return False
    except Exception as error:  # noqa: BLE001 - it is there, and the jobs will tell what it refuses
        log.info("probe_refused", provider=provider, error=error)
    return True


async def _is_suspicious(resources: Resources, queue: Queue, failure: Failure) -> bool:
    if failure.kind is FailureClass.OUTAGE:
        return True
    async with resources.pool.acquire() as conn:
        alike = await jobs.count_alike(conn, queue=queue, code=failure.code, within_s=ALIKE_WITHIN_S)
    return alike >= ALIKE_JOBS


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
        stranded = await jobs.select_stranded_jobs(
            conn, queue=outage.queue, since=outage.since, max_age_s=max_age_s, limit=BATCH
        )
    for job in stranded:
        dead = await lifecycle.give_up(resources.pool, job, retry_policy.stranded(outage))
        if dead is not None:
            log.warning("job_failed", job_id=job.id, outcome=dead.status, code=outage.code)
            await dead_letters.post(resources, dead)
