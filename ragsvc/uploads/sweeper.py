"""Expires overdue sessions, finishes stalled completions, and removes what ended sessions left behind in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import jobs, upload_sessions
from ragsvc.domain.uploads import UploadStatus
from ragsvc.telemetry.metrics import UPLOADS
from ragsvc.uploads.cleaning import clean_upload
from ragsvc.uploads.completion import complete_stalled

if TYPE_CHECKING:
    from ragsvc.resources import Resources

BATCH = 100

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
    for upload in stalled:
        await complete_stalled(resources, upload)
    for upload in unclean:
        await clean_upload(resources, upload)
        if upload.status is UploadStatus.EXPIRED:
            UPLOADS.labels(upload.api, UploadStatus.EXPIRED).inc()
    if unclean:
        log.info("uploads_cleaned", uploads=len(unclean))
    return len(unclean)
