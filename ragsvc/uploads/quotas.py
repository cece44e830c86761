"""Storage quotas of workspaces: stored files plus the declared sizes of open upload sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import documents, upload_sessions, workspaces
from ragsvc.errors.requests import QuotaExceeded

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Connection
    from ragsvc.domain.workspaces import Workspace


async def check_quota(conn: Connection, workspace: Workspace, *, added_bytes: int) -> None:
    """Check that the workspace can store this many more bytes.

    Raises:
        QuotaExceeded: it cannot.
    """
    if workspace.quota_bytes is None:
        return
    usage = await documents.select_usage(conn, workspace.id)
    reserved_bytes = await upload_sessions.sum_reserved_bytes(conn, workspace.id)
    if usage.storage_bytes + reserved_bytes + added_bytes > workspace.quota_bytes:
        raise QuotaExceeded(
            f"The workspace has a quota of {workspace.quota_bytes} bytes, stores {usage.storage_bytes}"
            f" and reserves {reserved_bytes} for open uploads."
        )


async def claim_quota(conn: Connection, workspace: Workspace, *, added_bytes: int) -> None:
    """Lock the workspace and check its quota; call it in the transaction that stores or reserves the bytes.

    Raises:
        QuotaExceeded: the quota does not allow this many more bytes.
    """
    if workspace.quota_bytes is not None:
        await workspaces.lock_workspace(conn, workspace.id)
        await check_quota(conn, workspace, added_bytes=added_bytes)
