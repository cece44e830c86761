"""How much a workspace may store: its files, and what open upload sessions have declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import documents, upload_sessions, workspaces
from ragsvc.errors import QuotaExceeded

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.workspaces import Workspace


async def check_quota(conn: Connection, workspace: Workspace, *, added_bytes: int) -> None:
    """Refuse what the workspace has no room for.

    Raises:
        QuotaExceeded: it has not.
    """
    if workspace.quota_bytes is None:
        return
    usage = await documents.select_usage(conn, workspace.id)
    reserved_bytes = await upload_sessions.sum_reserved_bytes(conn, workspace.id)
    if usage.storage_bytes + reserved_bytes + added_bytes > workspace.quota_bytes:
        raise QuotaExceeded(
            f"The workspace may hold {workspace.quota_bytes} bytes, holds {usage.storage_bytes}"
            f" and keeps {reserved_bytes} for open uploads."
        )


async def claim_quota(conn: Connection, workspace: Workspace, *, added_bytes: int) -> None:
    """Check the quota in a transaction that then stores or reserves the bytes: others that do so take turns.

    Raises:
        QuotaExceeded: there is no room.
    """
    if workspace.quota_bytes is not None:
        await workspaces.lock_workspace(conn, workspace.id)
        await check_quota(conn, workspace, added_bytes=added_bytes)
