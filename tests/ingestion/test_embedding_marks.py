"""The mark that a workspace has paid for a text is removed with its last chunk of that text."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import chunks, embedding_cache
from ragsvc.resources import open_resources
from tests.support.documents.library import Library, cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

SHARED = "Kettles boil water."
OWN = "Descale them every three months."


@pytest.fixture
async def library(settings: Settings, scripted_models: ScriptedModels, workspace: Workspace) -> AsyncIterator[Library]:
    async with open_resources(scripted_models.applied_to(settings), pool_size=8) as resources:
        yield Library(resources, workspace.id)


async def mark(library: Library, *texts: str) -> None:
    """Mark texts as paid for."""
    async with library.resources.pool.acquire() as conn:
        await embedding_cache.insert_marks(
            conn,
            library.workspace_id,
            space_id=library.resources.space.id,
            hashes=[chunk.embedding_input_hash for chunk in cut(texts)],
        )


async def count_marks(library: Library) -> int:
    """Return the number of the workspace's marks."""
    async with library.resources.pool.acquire() as conn:
        count: int = await conn.fetchval(
            "SELECT count(*) FROM embedding_cache WHERE scope = $1 AND embedding IS NULL", library.workspace_id
        )
    return count


async def remove(library: Library, document_id: UUID) -> None:
    """Remove the chunks of a document in one transaction."""
    async with library.resources.pool.acquire() as conn, conn.transaction():
        await chunks.delete_chunk_texts(conn, library.workspace_id, [document_id], limit=100)


async def test_a_mark_goes_with_the_last_chunk_of_its_text(library: Library) -> None:
    first = await library.add(SHARED, OWN)
    second = await library.add(SHARED)
    await mark(library, SHARED, OWN)
    await remove(library, first)
    assert await count_marks(library) == 1
    await remove(library, second)
    assert await count_marks(library) == 0


async def test_a_mark_goes_if_the_last_chunks_of_its_text_are_removed_at_the_same_time(library: Library) -> None:
    documents = [await library.add(SHARED) for _ in range(6)]
    await mark(library, SHARED)
    await asyncio.gather(*(remove(library, document_id) for document_id in documents))
    assert await count_marks(library) == 0
