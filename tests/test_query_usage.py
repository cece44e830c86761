"""The embedding usage of queries is written in the background and buffered while Postgres is unavailable."""

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
def no_periodic_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable periodic writes."""
    monkeypatch.setattr(query_usage, "WRITE_EVERY_S", 3600.0)


async def test_noted_usage_is_written_once(pool: Pool, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_usage, "WRITE_EVERY_S", 0.01)
    async with open_query_usage(pool, model=MODEL) as usage:
        for total in (1, 2, 3):
            usage.note(workspace.id, ONE)
            expected = {MODEL: EmbeddingUsage(total, 0, 3 * total)}

            async def is_written(expected: dict[str, EmbeddingUsage] = expected) -> bool:
                return await embeddings_of(pool, workspace.id) == expected

            await until(is_written)
    assert await embeddings_of(pool, workspace.id) == {MODEL: EmbeddingUsage(3, 0, 9)}


@pytest.mark.usefixtures("no_periodic_write")
async def test_the_rest_of_the_buffer_is_written_on_exit(pool: Pool, workspace: Workspace) -> None:
    async with open_query_usage(pool, model=MODEL) as usage:
        usage.note(workspace.id, ONE)
        usage.note(workspace.id, ONE)
        assert await embeddings_of(pool, workspace.id) == {}
    assert await embeddings_of(pool, workspace.id) == {MODEL: ONE + ONE}


async def test_usage_that_cannot_be_written_is_added_to_the_next_write(
    pool: Pool, workspace: Workspace, settings: Settings
) -> None:
    usage = QueryUsage(pool, model=MODEL)
    usage.note(workspace.id, ONE)
    async with owner_of(settings) as owner:
        await owner.execute("ALTER TABLE embedding_usage RENAME TO renamed")
        await usage.write()
        await owner.execute("ALTER TABLE renamed RENAME TO embedding_usage")
    usage.note(workspace.id, ONE)
    await usage.write()
    assert await embeddings_of(pool, workspace.id) == {MODEL: ONE + ONE}


async def test_the_number_of_buffered_workspaces_is_limited(
    pool: Pool, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_usage, "MAX_WORKSPACES", 2)
    cached, first, second, late = [(await create_workspace(pool, storage, settings)).id for _ in range(4)]
    usage = QueryUsage(pool, model=MODEL)
    # A query whose vector was cached takes up no space in the buffer.
    usage.note(cached, EmbeddingUsage())
    for workspace_id in (first, second, late, first):
        usage.note(workspace_id, ONE)
    await usage.write()
    found = [await embeddings_of(pool, workspace_id) for workspace_id in (cached, first, second, late)]
    assert found == [{}, {MODEL: ONE + ONE}, {MODEL: ONE}, {}]
    usage.note(late, ONE)
    await usage.write()
    assert await embeddings_of(pool, late) == {MODEL: ONE}
