"""Removes stored files that no document uses; they are closed first, so that the sweeper can finish the removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import documents, files
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.db.files import ReleasedFile
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.errors.requests import FileInUse, NotFound
from ragsvc.errors.work import WorkError
from ragsvc.telemetry.sweep_items import sweep_each

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

SWEEP_BATCH = 100
# Delay before a file that could not be removed is tried again.
RETRY_S = 300.0

log = structlog.get_logger(__name__)


async def delete_unused_file(resources: Resources, workspace: Workspace, file_id: UUID) -> None:
    """Close the file and remove it; if the store fails, the next sweep removes it.

    Raises:
        NotFound: there is no such file.
        FileInUse: a document uses it, or will use it as its next version.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        file = await files.lock_file(conn, workspace.id, file_id)
        if file is None:
            raise NotFound
        if await documents.count_documents_of_file(conn, workspace.id, file_id):
            raise FileInUse
        await files.release_file(conn, workspace.id, file_id, document_id=None)
        subject = (AuditSubject.FILE, file_id)
        await insert_audit_event(conn, AuditAction.FILE_DELETED, workspace_id=workspace.id, subject=subject)
    try:
        await _remove(resources, ReleasedFile(workspace.id, file_id, workspace.bucket, file.object_key))
    except WorkError as error:
        log.warning("file_not_removed_yet", file_id=file_id, error=error.detail)


async def sweep_released_files(resources: Resources) -> int:
    """Remove the closed files that no document uses and return how many were removed.

    These are files replaced by a new version, and files whose removal was interrupted.
    """
    async with resources.pool.acquire() as conn:
        released = await files.select_released_files(conn, limit=SWEEP_BATCH)

    async def remove(file: ReleasedFile) -> None:
        await _remove(resources, file)

    async def postpone(file: ReleasedFile) -> None:
        async with resources.pool.acquire() as conn:
            await files.postpone_file(conn, file.workspace_id, file.id, delay_s=RETRY_S)

    return await sweep_each(released, remove, kind="file", postpone=postpone)


async def _remove(resources: Resources, file: ReleasedFile) -> None:
    """Remove the object before the row: if the process dies in between, the next sweep finds the row again."""
    await resources.storage.delete_objects(file.bucket, [file.object_key])
    async with resources.pool.acquire() as conn, conn.transaction():
        await files.delete_purged_files(conn, file.workspace_id, [file.id])
    log.info("file_deleted", file_id=file.id)
