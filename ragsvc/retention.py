"""Retention: how long rows that have ended are kept. docs/operations.md names every table, and why it ends or not."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from ragsvc.db.api_keys import delete_ended_keys
from ragsvc.db.bulk_operations import delete_ended_operations
from ragsvc.db.ended_jobs import delete_ended_jobs, delete_old_dead_jobs
from ragsvc.db.idempotency_keys import delete_old_calls_of_all
from ragsvc.db.upload_sessions import delete_ended_uploads
from ragsvc.db.upload_tokens import delete_expired_tokens_of_all
from ragsvc.db.workers import delete_silent_workers
from ragsvc.telemetry.sweep_items import sweep_each

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ragsvc.resources import Resources

ENDED_JOB_DAYS = 7
DEAD_LETTER_DAYS = 90
# Ended sessions contain the name and the attributes of a file that does not exist.
ENDED_UPLOAD_DAYS = 7
BULK_OPERATION_DAYS = 90
ENDED_KEY_DAYS = 90
SILENT_WORKER_HOURS = 1

DELETIONS: tuple[Callable[..., Awaitable[int]], ...] = (
    delete_old_calls_of_all,
    delete_expired_tokens_of_all,
    partial(delete_ended_jobs, days=ENDED_JOB_DAYS),
    partial(delete_old_dead_jobs, days=DEAD_LETTER_DAYS),
    partial(delete_ended_uploads, days=ENDED_UPLOAD_DAYS),
    partial(delete_ended_operations, days=BULK_OPERATION_DAYS),
    partial(delete_ended_keys, days=ENDED_KEY_DAYS),
    partial(delete_silent_workers, hours=SILENT_WORKER_HOURS),
)
BATCH = 1000
# Time limit of one sweep for each table: the sweeper has other tasks, and the next sweep follows soon.
SWEEP_S = 2.0


async def sweep_ended_rows(resources: Resources) -> None:
    """Remove rows that ended long ago, in batches."""

    async def remove(delete: Callable[..., Awaitable[int]]) -> None:
        end = time.monotonic() + SWEEP_S
        removed = BATCH
        while removed == BATCH and time.monotonic() < end:
            async with resources.pool.acquire() as conn:
                removed = await delete(conn, limit=BATCH)

    await sweep_each(DELETIONS, remove, kind="ended_rows")
