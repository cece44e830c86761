"""Creates, changes and reads a workspace's collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.db import collections, workspaces
from ragsvc.errors.requests import DefaultCollection, NotFound

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.collections import Chunking, Collection
    from ragsvc.resources import Resources


async def create_collection(
    resources: Resources,
    workspace_id: UUID,
    collection_id: UUID,
    *,
    name: str,
    chunking: Chunking | None,
    metadata: dict[str, object],
) -> Collection:
    """Add a collection to the workspace.

    Raises:
        NameTaken: another collection of the workspace has this name.
    """
    async with resources.pool.acquire() as conn, conn.transaction():
        await workspaces.pin_workspace(conn, workspace_id)
        return await collections.insert_collection(
            conn, workspace_id, collection_id, name=name, chunking=chunking, metadata=metadata
        )


async def find_collection(resources: Resources, workspace_id: UUID, collection_id: UUID) -> Collection | None:
    """Return a collection of the workspace; None if it does not exist."""
    async with resources.pool.acquire() as conn:
        return await collections.select_collection(conn, workspace_id, collection_id)


async def get_collection(resources: Resources, workspace_id: UUID, collection_id: UUID) -> Collection:
    """Return a collection of the workspace.

    Raises:
        NotFound: it does not exist.
    """
    collection = await find_collection(resources, workspace_id, collection_id)
    if collection is None:
        raise NotFound(kind="collection")
    return collection


async def list_collections(
    resources: Resources, workspace_id: UUID, *, before: UUID | None, limit: int
) -> list[Collection]:
    """Return at most `limit` of the workspace's collections created before `before`, newest first."""
    async with resources.pool.acquire() as conn:
        return await collections.select_collections(conn, workspace_id, before=before, limit=limit)


async def update_collection(
    resources: Resources,
    workspace_id: UUID,
    collection_id: UUID,
    *,
    name: str | None,
    metadata: dict[str, object] | None,
    sets_chunking: bool,
    chunking: Chunking | None,
) -> Collection:
    """Change the given fields of a collection; None leaves a field unchanged.

    `chunking` is changed only if `sets_chunking` is true, because None there means the service's default.

    Raises:
        NotFound: there is no such collection.
        NameTaken: another collection of the workspace has this name.
    """
    async with resources.pool.acquire() as conn:
        collection = await collections.update_collection(
            conn,
            workspace_id,
            collection_id,
            name=name,
            metadata=metadata,
            sets_chunking=sets_chunking,
            chunking=chunking,
        )
    if collection is None:
        raise NotFound(kind="collection")
    return collection


async def refuse_default_collection(resources: Resources, workspace_id: UUID, collection_id: UUID) -> None:
    """Check that a collection is not the workspace's default one, which cannot be deleted.

    Raises:
        DefaultCollection: the collection is the default one.
    """
    collection = await find_collection(resources, workspace_id, collection_id)
    if collection is not None and collection.is_default:
        raise DefaultCollection
