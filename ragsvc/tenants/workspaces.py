"""Creates and reads workspaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ragsvc.db import collections, workspaces
from ragsvc.db.audit_events import insert_audit_event
from ragsvc.domain.audit import AuditAction, AuditSubject
from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import NotFound
from ragsvc.storage.locations import choose_location

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources

DEFAULT_COLLECTION_NAME = "default"

log = structlog.get_logger(__name__)


async def create_workspace(resources: Resources, workspace_id: UUID, *, name: str) -> Workspace:
    """Create the bucket, then the workspace's row and its default collection.

    A crash in between leaves behind at most an empty bucket.

    Raises:
        ProviderRefused: the object store refuses to create the bucket.
    """
    location = choose_location(resources.settings, workspace_id)
    await resources.storage.create_bucket(location.bucket)
    async with resources.pool.acquire() as conn, conn.transaction():
        workspace = await workspaces.insert_workspace(
            conn,
            workspace_id,
            name=name,
            location=location,
            quota_bytes=resources.settings.api.workspace_quota_bytes,
        )
        await collections.insert_collection(conn, workspace_id, new_id(), name=DEFAULT_COLLECTION_NAME, is_default=True)
        await insert_audit_event(
            conn,
            AuditAction.WORKSPACE_CREATED,
            workspace_id=workspace_id,
            subject=(AuditSubject.WORKSPACE, workspace_id),
            details={"name": name, "bucket": location.bucket},
        )
    log.info("workspace_created", workspace_id=workspace_id, bucket=location.bucket)
    return workspace


async def find_workspace(resources: Resources, workspace_id: UUID) -> Workspace | None:
    """Return a workspace, including one that is being deleted; None if it does not exist."""
    async with resources.pool.acquire() as conn:
        return await workspaces.select_workspace(conn, workspace_id)


async def get_workspace(resources: Resources, workspace_id: UUID) -> Workspace:
    """Return a workspace, including one that is being deleted.

    Raises:
        NotFound: it does not exist.
    """
    workspace = await find_workspace(resources, workspace_id)
    if workspace is None:
        raise NotFound
    return workspace


async def list_workspaces(resources: Resources, *, before: UUID | None, limit: int) -> list[Workspace]:
    """Return at most `limit` workspaces created before `before`, newest first."""
    async with resources.pool.acquire() as conn:
        return await workspaces.select_workspaces(conn, before=before, limit=limit)
