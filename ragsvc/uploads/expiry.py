"""Removes what uploads without an end left in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import jobs, upload_sessions

if TYPE_CHECKING:
    from ragsvc.models.documents import Upload
    from ragsvc.resources import Resources

BATCH = 100

log = structlog.get_logger(__name__)


async def sweep_uploads(resources: Resources) -> int:
    """Expire sessions past their time, clean up after those that ended, and return how many were cleaned."""
    async with resources.pool.acquire() as conn:
        async with conn.transaction():
            if not await jobs.try_lock(conn, "sweep:uploads"):
                return 0
            await upload_sessions.expire_uploads(conn)
        unclean = await upload_sessions.select_unclean_uploads(conn, limit=BATCH)
    for upload in unclean:
        await clean_upload(resources, upload)
    if unclean:
        log.info("uploads_cleaned", uploads=len(unclean))
    return len(unclean)


async def clean_upload(resources: Resources, upload: Upload) -> None:
    """Remove the parts and the object of a session that ended without a file.

    Parts are looked up by the key too: a process may have died before it wrote the store's id of the upload down.
    """
    storage = resources.storage
    ids = {found.upload_id for found in await storage.list_multiparts(upload.bucket, prefix=upload.object_key)}
    for s3_upload_id in ids | ({upload.s3_upload_id} if upload.s3_upload_id else set()):
        await storage.abort_multipart(upload.bucket, upload.object_key, upload_id=s3_upload_id)
    await storage.delete_object(upload.bucket, upload.object_key)
    async with resources.pool.acquire() as conn:
        await upload_sessions.update_cleaned(conn, upload.workspace_id, upload.id)
