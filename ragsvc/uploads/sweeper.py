"""Expires overdue sessions, finishes stalled completions, and removes what ended sessions left behind in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import jobs, upload_sessions
from ragsvc.domain.uploads import UploadStatus
from ragsvc.telemetry.metrics import UPLOADS
from ragsvc.telemetry.sweep_items import sweep_each
from ragsvc.uploads.cleaning import clean_upload
from ragsvc.uploads.completion import complete_stalled

if TYPE_CHECKING:
    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources

BATCH = 100
# Delay before a session that could not be completed or cleaned up is tried again.
RETRY_S = 300.0

log = structlog.get_logger(__name__)


async def sweep_uploads(resources: Resources) -> int:
    """Expire sessions, finish stalled completions, clean up ended sessions, and return how many were cleaned up."""
    async with resources.pool.acquire() as conn:
        async with conn.transaction():
            if not await jobs.try_lock(conn, "sweep:uploads"):
                return 0
            await upload_sessions.expire_uploads(conn)
        stalled = await upload_sessions.select_silent_uploads(conn, limit=BATCH)
        unclean = await upload_sessions.select_unclean_uploads(conn, limit=BATCH)

    async def complete(upload: Upload) -> None:
        await complete_stalled(resources, upload)

    async def clean(upload: Upload) -> None:
        await clean_upload(resources, upload)
        if upload.status is UploadStatus.EXPIRED:
            UPLOADS.labels(upload.api, UploadStatus.EXPIRED).inc()

    async def postpone(upload: Upload) -> None:
        async with resources.pool.acquire() as conn:
            await upload_sessions.postpone_upload(conn, upload.workspace_id, upload.id, delay_s=RETRY_S)

    await sweep_each(stalled, complete, kind="upload_completion", postpone=postpone)
    cleaned = await sweep_each(unclean, clean, kind="upload", postpone=postpone)
    if cleaned:
        log.info("uploads_cleaned", uploads=cleaned)
    return cleaned
