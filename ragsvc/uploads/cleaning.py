"""Removes what uploads without an end left in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import upload_sessions
from ragsvc.domain.uploads import UploadStatus
from ragsvc.storage.errors import ObjectMissing
from ragsvc.telemetry.metrics import UPLOADS
from ragsvc.uploads.tails import remove_tail

if TYPE_CHECKING:
    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources

log = structlog.get_logger(__name__)


async def abandon(resources: Resources, upload: Upload) -> None:
    """Remove what the store holds of a failed session, unless its commit went through and only the answer was lost."""
    try:
        async with resources.pool.acquire() as conn:
            closed = await upload_sessions.close_upload(
                conn, upload.workspace_id, upload.id, status=UploadStatus.ABORTED
            )
        if closed:
            UPLOADS.labels(upload.api, UploadStatus.ABORTED).inc()
            await clean_upload(resources, upload)
    except Exception as error:  # noqa: BLE001 - the sweeper does it later; the caller's own error is the one to tell
        log.warning("upload_not_cleaned", upload_id=upload.id, error=error)


async def clean_upload(resources: Resources, upload: Upload) -> None:
    """Remove the parts and the object of a session that ended without a file.

    Parts are looked up by the key too: a process may have died before it wrote the store's id of the upload down.
    """
    storage = resources.storage
    try:
        listed = await storage.list_multiparts(upload.bucket, prefix=upload.object_key)
    except ObjectMissing:
        # The bucket went with its workspace, and every part with it.
        listed = []
    ids = {found.upload_id for found in listed}
    for s3_upload_id in ids | ({upload.s3_upload_id} if upload.s3_upload_id else set()):
        await storage.abort_multipart(upload.bucket, upload.object_key, upload_id=s3_upload_id)
    await storage.delete_object(upload.bucket, upload.object_key)
    await remove_tail(resources, upload)
    async with resources.pool.acquire() as conn:
        await upload_sessions.update_cleaned(conn, upload.workspace_id, upload.id)
