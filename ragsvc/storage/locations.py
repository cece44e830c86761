"""Chooses where a new workspace stores its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.workspaces import Location

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.settings.settings import Settings


def choose_location(settings: Settings, workspace_id: UUID) -> Location:
    """Return a dedicated bucket, or a prefix in the shared bucket if S3_BUCKET_MODE is `shared`."""
    if settings.stores.s3_bucket_mode == "shared":
        return Location(settings.stores.s3_bucket_prefix, f"{workspace_id.hex}/")
    return Location(f"{settings.stores.s3_bucket_prefix}-{workspace_id.hex}")
