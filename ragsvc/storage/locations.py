"""Where a new workspace is to keep its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.workspaces import Place

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.settings import Settings


def choose_place(settings: Settings, workspace_id: UUID) -> Place:
    """Return a bucket of its own, or, for accounts that may have few, a prefix in the one that all share."""
    if settings.s3_bucket_mode == "shared":
        return Place(settings.s3_bucket_prefix, f"{workspace_id.hex}/")
    return Place(f"{settings.s3_bucket_prefix}-{workspace_id.hex}")
