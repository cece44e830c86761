"""Removes what unfinished uploads left behind in the object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import upload_sessions
from ragsvc.domain.uploads import UploadStatus
from ragsvc.storage.errors import ObjectMissing
from ragsvc.telemetry.metrics import UPLOADS
from ragsvc.uploads.tails import remove_tails

if TYPE_CHECKING:
    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources

log = structlog.get_logger(__name__)


async def abandon(resources: Resources, upload: Upload) -> None:
    """Abort a failed session and remove its objects, unless its commit succeeded and only the response was lost."""
    try:
        async with resources.pool.acquire() as conn:
            closed = await upload_sessions.close_upload(
                conn, upload.workspace_id, upload.id, status=UploadStatus.ABORTED
            )
            # The session of a workspace that was deleted in the meantime is gone, and so is any file of it.
            is_gone = not closed and await upload_sessions.select_upload(conn, upload.workspace_id, upload.id) is None
        if closed or is_gone:
            UPLOADS.labels(upload.api, UploadStatus.ABORTED).inc()
            await clean_upload(resources, upload)
    except Exception as error:  # noqa: BLE001 - the sweeper retries; the caller re-raises the original error
        log.warning("upload_not_cleaned", upload_id=upload.id, error=error)


async def clean_upload(resources: Resources, upload: Upload) -> None:
    """Remove the parts, object and tail of a session that ended without a file.

    Multipart uploads are also looked up by key, because a process can die before it records the store's upload id.
    """
    storage = resources.storage
    try:
        listed = await storage.list_multiparts(upload.bucket, prefix=upload.object_key)
    except ObjectMissing:
        # The bucket and all parts in it were deleted with the workspace.
        listed = []
    ids = {found.upload_id for found in listed}
    for s3_upload_id in ids | ({upload.s3_upload_id} if upload.s3_upload_id else set()):
        await storage.abort_multipart(upload.bucket, upload.object_key, upload_id=s3_upload_id)
    await storage.delete_objects(upload.bucket, [upload.object_key])
    await remove_tails(resources, upload)
    async with resources.pool.acquire() as conn:
        await upload_sessions.update_cleaned(conn, upload.workspace_id, upload.id)
