"""Texts are embedded only once across workspaces, versions and crashes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ragsvc.domain.ids import new_id
from ragsvc.ingestion.embedding import embed_chunks, sweep_embedding_cache
from ragsvc.resources import open_resources
from tests.support.documents.builds import make_chunks
from tests.support.servers.model_server import Fail, Pause, Slow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from numpy.typing import NDArray

    from ragsvc.domain.chunks import Chunk
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

TEXTS = tuple(f"Kettle number {number} boils." for number in range(10))
BATCH = 2
IN_FLIGHT = 2
WORKSPACE = new_id()


@pytest.fixture
async def scripted(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Resources]:
    changed = scripted_models.applied_to(settings).changed(
        {"embedding_batch_size": BATCH, "embedding_concurrency": IN_FLIGHT}
    )
    async with open_resources(changed, pool_size=8) as opened:
        yield opened


async def ignore(_count: int) -> None: ...


async def embed(resources: Resources, chunks: list[Chunk], *, workspace_id: UUID = WORKSPACE) -> NDArray[np.float32]:
    return await embed_chunks(resources, workspace_id, chunks, report=ignore)


def requested_texts(models: ScriptedModels) -> list[str]:
    """Return all texts that the model was asked to embed, in order."""
    return [text for request in models.embeddings.requests for text in request["input"]]


async def test_embedding_the_same_texts_again_makes_no_call(
    scripted: Resources, scripted_models: ScriptedModels
) -> None:
    chunks = make_chunks([*TEXTS, TEXTS[0]])
    first = await embed(scripted, chunks)
    assert sorted(requested_texts(scripted_models)) == sorted(TEXTS)
    # The vectors come in the order of the chunks.
    np.testing.assert_allclose(await embed(scripted, chunks[::-1]), first[::-1], atol=2e-3)
    assert sorted(requested_texts(scripted_models)) == sorted(TEXTS)


async def test_the_cache_can_be_scoped_to_a_workspace(settings: Settings, scripted_models: ScriptedModels) -> None:
    own = scripted_models.applied_to(settings).changed({"embedding_cache_scope": "workspace"})
    async with open_resources(own, pool_size=4) as resources:
        for workspace_id in (WORKSPACE, new_id(), WORKSPACE):
            await embed(resources, make_chunks(TEXTS[:2]), workspace_id=workspace_id)
    assert sorted(requested_texts(scripted_models)) == sorted(TEXTS[:2] * 2)


async def test_after_a_crash_at_most_the_calls_in_flight_are_repeated(
    scripted: Resources, scripted_models: ScriptedModels
) -> None:
    chunks = make_chunks(TEXTS)
    pauses = [Pause(), Pause()]
    # Two batches return, then both calls in flight hang, and the worker dies.
    scripted_models.embeddings.script(Slow(0), Slow(0), *pauses)
    embedding = asyncio.create_task(embed(scripted, chunks))
    for pause in pauses:
        await asyncio.wait_for(pause.reached.wait(), 20)
    embedding.cancel()
    with suppress(asyncio.CancelledError):
        await embedding
    await embed(scripted, chunks)
    requested = requested_texts(scripted_models)
    assert set(requested) == set(TEXTS)
    assert len(requested) - len(TEXTS) <= BATCH * IN_FLIGHT


async def test_a_failed_batch_does_not_discard_the_others(scripted: Resources, scripted_models: ScriptedModels) -> None:
    chunks = make_chunks(TEXTS[:4])
    scripted_models.embeddings.script(Slow(0), Fail(status=400, message="no"))
    with pytest.raises(Exception, match="no"):
        await embed(scripted, chunks)
    before = len(requested_texts(scripted_models))
    await embed(scripted, chunks)
    assert len(requested_texts(scripted_models)) - before <= BATCH * IN_FLIGHT


async def test_cache_hits_count_as_use_and_unused_vectors_are_deleted(
    scripted: Resources, scripted_models: ScriptedModels
) -> None:
    used, unused = make_chunks(TEXTS[:1]), make_chunks(TEXTS[1:2])
    await embed(scripted, [*used, *unused])
    days = scripted.settings.llm.embedding_cache_days
    async with scripted.pool.acquire() as conn:
        await conn.execute("UPDATE embedding_cache SET last_used = now() - make_interval(days => $1)", days + 1)
    # Many at once; only one of them updates the row.
    await asyncio.gather(*(embed(scripted, used) for _ in range(6)))
    # A vector, and the mark of the workspace that has paid for it.
    assert await sweep_embedding_cache(scripted) == 2
    asked = len(requested_texts(scripted_models))
    await embed(scripted, used)
    assert len(requested_texts(scripted_models)) == asked
    await embed(scripted, unused)
    assert len(requested_texts(scripted_models)) == asked + 1


async def test_a_cached_vector_without_length_is_replaced(scripted: Resources, scripted_models: ScriptedModels) -> None:
    chunks = make_chunks(TEXTS[:1])
    expected = await embed(scripted, chunks)
    async with scripted.pool.acquire() as conn:
        await conn.execute("UPDATE embedding_cache SET embedding = embedding - embedding")
    for _ in range(2):
        np.testing.assert_allclose(await embed(scripted, chunks), expected, atol=2e-3)
    assert requested_texts(scripted_models) == list(TEXTS[:1]) * 2
