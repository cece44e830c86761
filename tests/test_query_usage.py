"""What queries cost is written beside them, and kept while it cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc import query_usage
from ragsvc.domain.usage import EmbeddingUsage
from ragsvc.query_usage import QueryUsage, open_query_usage
from tests.support.polling import until
from tests.support.servers.databases import owner_of
from tests.support.usage import embeddings_of
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from ragsvc.db.connections.pool import Pool
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from ragsvc.storage.store import Storage

MODEL = "a-model"
ONE = EmbeddingUsage(calls=1, prompt_tokens=3)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written by the clock."""
    monkeypatch.setattr(query_usage, "WRITE_EVERY_S", 3600.0)


async def test_what_is_noted_is_written_soon_and_once(
    pool: Pool, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_usage, "WRITE_EVERY_S", 0.01)
    async with open_query_usage(pool, model=MODEL) as usage:
        for total in (1, 2, 3):
            usage.note(workspace.id, ONE)
            wanted = {MODEL: EmbeddingUsage(total, 0, 3 * total)}

            async def is_written(wanted: dict[str, EmbeddingUsage] = wanted) -> bool:
                return await embeddings_of(pool, workspace.id) == wanted

            await until(is_written)
    assert await embeddings_of(pool, workspace.id) == {MODEL: EmbeddingUsage(3, 0, 9)}


@pytest.mark.usefixtures("never")
async def test_the_end_writes_what_is_left(pool: Pool, workspace: Workspace) -> None:
    async with open_query_usage(pool, model=MODEL) as usage:
        usage.note(workspace.id, ONE)
        usage.note(workspace.id, ONE)
        assert await embeddings_of(pool, workspace.id) == {}
    assert await embeddings_of(pool, workspace.id) == {MODEL: ONE + ONE}


async def test_what_cannot_be_written_waits_with_what_comes_meanwhile(
    pool: Pool, workspace: Workspace, settings: Settings
) -> None:
    usage = QueryUsage(pool, model=MODEL)
    usage.note(workspace.id, ONE)
    async with owner_of(settings) as owner:
        await owner.execute("ALTER TABLE embedding_usage RENAME TO elsewhere")
        await usage.write()
        await owner.execute("ALTER TABLE elsewhere RENAME TO embedding_usage")
    usage.note(workspace.id, ONE)
    await usage.write()
    assert await embeddings_of(pool, workspace.id) == {MODEL: ONE + ONE}


async def test_only_so_many_workspaces_are_held(
    pool: Pool, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_usage, "MOST_WORKSPACES", 2)
    free, first, second, late = [(await create_workspace(pool, storage, settings)).id for _ in range(4)]
    usage = QueryUsage(pool, model=MODEL)
    # What was remembered takes no place.
    usage.note(free, EmbeddingUsage())
    for workspace_id in (first, second, late, first):
        usage.note(workspace_id, ONE)
    await usage.write()
    found = [await embeddings_of(pool, workspace_id) for workspace_id in (free, first, second, late)]
    assert found == [{}, {MODEL: ONE + ONE}, {MODEL: ONE}, {}]
    usage.note(late, ONE)
    await usage.write()
    assert await embeddings_of(pool, late) == {MODEL: ONE}
