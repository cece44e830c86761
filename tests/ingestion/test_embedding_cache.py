"""What was embedded once is not paid for again: not by another workspace, another version, or after a crash."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ragsvc.domain.ids import new_id
from ragsvc.ingestion.embedding import embed_chunks, sweep_embedding_cache
from ragsvc.resources import open_resources
from tests.support.builds import make_chunks
from tests.support.servers.model_server import Fail, Pause, Slow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

    from ragsvc.domain.chunks import Chunk
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

TEXTS = tuple(f"Kettle number {number} boils." for number in range(10))
BATCH = 2
IN_FLIGHT = 2


@pytest.fixture
async def scripted(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Resources]:
    changed = scripted_models.applied_to(settings).changed(
        {"embedding_batch_size": BATCH, "embedding_concurrency": IN_FLIGHT}
    )
    async with open_resources(changed, pool_size=8) as opened:
        yield opened


async def ignore(_count: int) -> None: ...


async def embed(resources: Resources, chunks: list[Chunk]) -> NDArray[np.float32]:
    return await embed_chunks(resources, new_id(), chunks, report=ignore)


def paid(models: ScriptedModels) -> list[str]:
    """Return every text that was asked for, in its order."""
    return [text for request in models.embeddings.requests for text in request["input"]]


async def test_a_second_ingestion_anywhere_makes_no_call(scripted: Resources, scripted_models: ScriptedModels) -> None:
    chunks = make_chunks([*TEXTS, TEXTS[0]])
    first = await embed(scripted, chunks)
    assert sorted(paid(scripted_models)) == sorted(TEXTS)
    # Another workspace, and the vectors in the order of its chunks.
    np.testing.assert_allclose(await embed(scripted, chunks[::-1]), first[::-1], atol=2e-3)
    assert sorted(paid(scripted_models)) == sorted(TEXTS)


async def test_a_workspace_may_keep_its_vectors_to_itself(settings: Settings, scripted_models: ScriptedModels) -> None:
    own = scripted_models.applied_to(settings).changed({"embedding_cache_scope": "workspace"})
    async with open_resources(own, pool_size=4) as resources:
        for _ in range(2):
            await embed(resources, make_chunks(TEXTS[:2]))
    assert sorted(paid(scripted_models)) == sorted(TEXTS[:2] * 2)


async def test_a_crash_pays_again_for_the_calls_in_flight_at_most(
    scripted: Resources, scripted_models: ScriptedModels
) -> None:
    chunks = make_chunks(TEXTS)
    held = [Pause(), Pause()]
    # Two batches come back, then both of those in flight hang, and the worker dies.
    scripted_models.embeddings.script(Slow(0), Slow(0), *held)
    dying = asyncio.create_task(embed(scripted, chunks))
    for pause in held:
        await asyncio.wait_for(pause.reached.wait(), 20)
    dying.cancel()
    with suppress(asyncio.CancelledError):
        await dying
    await embed(scripted, chunks)
    again = paid(scripted_models)
    assert set(again) == set(TEXTS)
    assert len(again) - len(TEXTS) <= BATCH * IN_FLIGHT


async def test_a_batch_that_fails_loses_none_of_the_others(
    scripted: Resources, scripted_models: ScriptedModels
) -> None:
    chunks = make_chunks(TEXTS[:4])
    scripted_models.embeddings.script(Slow(0), Fail(status=400, message="no"))
    with pytest.raises(Exception, match="no"):
        await embed(scripted, chunks)
    before = len(paid(scripted_models))
    await embed(scripted, chunks)
    assert len(paid(scripted_models)) - before <= BATCH * IN_FLIGHT


async def test_a_hit_is_a_use_and_what_nobody_uses_is_dropped(
    scripted: Resources, scripted_models: ScriptedModels
) -> None:
    used, unused = make_chunks(TEXTS[:1]), make_chunks(TEXTS[1:2])
    await embed(scripted, [*used, *unused])
    days = scripted.settings.llm.embedding_cache_days
    async with scripted.pool.acquire() as conn:
        await conn.execute("UPDATE embedding_cache SET last_used = now() - make_interval(days => $1)", days + 1)
    # Many at once, as after a night: each row is touched by one of them.
    await asyncio.gather(*(embed(scripted, used) for _ in range(6)))
    assert await sweep_embedding_cache(scripted) == 1
    asked = len(paid(scripted_models))
    await embed(scripted, used)
    assert len(paid(scripted_models)) == asked
    await embed(scripted, unused)
    assert len(paid(scripted_models)) == asked + 1
