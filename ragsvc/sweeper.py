"""The background sweeper of every process: chores that find and repair lost or leftover state."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from ragsvc.deletion.files import sweep_released_files
from ragsvc.ingestion.embedding import sweep_embedding_cache
from ragsvc.ingestion.stale_builds import sweep_builds, sweep_superseded_texts
from ragsvc.jobs.outages import sweep_outages
from ragsvc.jobs.sweeper import sweep_jobs
from ragsvc.retention import sweep_ended_rows
from ragsvc.runs.runs import sweep_runs
from ragsvc.telemetry.metrics import SWEEPER_CHORE_DURATION, SWEEPER_CHORES
from ragsvc.uploads.orphans import sweep_orphans
from ragsvc.uploads.sweeper import sweep_uploads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ragsvc.resources import Resources

    Chore = Callable[[Resources], Awaitable[object]]

# Chores that other work waits for. Outages come first so that the workers of a queue that resumes are notified in the
# same sweep.
URGENT_CHORES = (sweep_outages, sweep_jobs, sweep_runs)
# Chores that clean up. They call the object store, which can be slow, so they run beside the urgent ones.
CLEANING_CHORES = (
    sweep_uploads,
    sweep_released_files,
    sweep_builds,
    sweep_superseded_texts,
    sweep_embedding_cache,
    sweep_orphans,
    sweep_ended_rows,
)

log = structlog.get_logger(__name__)


async def run_sweeper(resources: Resources) -> None:
    """Run all chores every SWEEP_INTERVAL_S until cancelled; a chore that fails is retried in the next sweep."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat(resources, URGENT_CHORES))
        group.create_task(_repeat(resources, CLEANING_CHORES))


async def _repeat(resources: Resources, chores: Sequence[Chore]) -> None:
    while True:
        # Jitter spreads the sweeps of a fleet over time.
        await asyncio.sleep(resources.settings.jobs.sweep_interval_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        for chore in chores:
            name = chore.__name__
            try:
                with SWEEPER_CHORE_DURATION.labels(name).time():
                    await chore(resources)
            except Exception as error:  # noqa: BLE001 - a chore that fails must not stop the others
                log.warning("sweep_failed", chore=name, error=error)
                SWEEPER_CHORES.labels(name, "failed").inc()
            else:
                SWEEPER_CHORES.labels(name, "ok").inc()
