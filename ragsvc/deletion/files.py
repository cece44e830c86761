"""Removes a stored file that no document uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import documents, files
from ragsvc.errors import FileInUse, NotFound
from ragsvc.models.ids import new_id

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.models.workspaces import Workspace
    from ragsvc.resources import Resources

log = structlog.get_logger(__name__)


async def delete_unused_file(resources: Resources, workspace: Workspace, file_id: UUID) -> None:
    """Remove the object, then the row; nothing can attach the file meanwhile, because its row is locked.

    Killed between the two, the row stays: the client got no answer, and asking again ends it.

    Raises:
        NotFound: there is no such file.
        FileInUse: a document uses it.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        file = await files.lock_file(conn, workspace.id, file_id)
        if file is None:
            raise NotFound
        if await documents.count_documents_of_file(conn, workspace.id, file_id):
            raise FileInUse
        await files.mark_file_purged(conn, workspace.id, file_id, deletion_id=new_id())
        await resources.storage.delete_object(workspace.bucket, file.object_key)
        await files.delete_purged_file(conn, workspace.id, file_id)
    log.info("file_deleted", file_id=file_id.hex)
