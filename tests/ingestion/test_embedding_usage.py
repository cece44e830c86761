"""The usage of embedding calls is recorded for the workspace, together with the vectors."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ragsvc.domain.usage import EmbeddingUsage
from ragsvc.ingestion.embedding import embed_chunks
from ragsvc.llm.call_times import MIN_KNOWN
from ragsvc.resources import open_resources
from tests.support.documents.builds import make_chunks
from tests.support.servers.databases import owner_of
from tests.support.servers.model_server import Pause, ReportedUsage
from tests.support.usage import embeddings_of
from tests.support.workspaces import create_workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

SHARED = ("Kettles boil water.", "Descale them every three months.")
BATCH = 2


@pytest.fixture
async def scripted(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Resources]:
    changed = scripted_models.applied_to(settings).changed({"embedding_batch_size": BATCH, "embedding_concurrency": 4})
    async with open_resources(changed, pool_size=16) as opened:
        yield opened


async def ignore(_count: int) -> None: ...


async def embed(resources: Resources, workspace: Workspace, sentences: Sequence[str]) -> None:
    """Embed a document with one chunk per sentence."""
    await embed_chunks(resources, workspace.id, make_chunks(sentences), report=ignore)


def learn_call_times(resources: Resources) -> None:
    """Let the process know as many calls of each size as it needs to draw the time of one."""
    for size in range(1, BATCH + 1):
        for _ in range(MIN_KNOWN):
            resources.llm._embedder._times.add(size, seconds=0.0)


async def recorded_usage(resources: Resources, workspace: Workspace) -> EmbeddingUsage:
    by_model = await embeddings_of(resources.pool, workspace.id)
    assert set(by_model) <= {resources.settings.llm.embedding_model}
    return by_model.get(resources.settings.llm.embedding_model, EmbeddingUsage())


def reported_usage(models: ScriptedModels) -> EmbeddingUsage:
    """Return the usage that the server has reported for all calls."""
    tokens = [sum(map(len, request["input"])) // 4 for request in models.embeddings.requests]
    return EmbeddingUsage(calls=len(tokens), prompt_tokens=sum(tokens))


async def test_shared_texts_are_counted_once_for_each_workspace(
    scripted: Resources, scripted_models: ScriptedModels, workspace: Workspace, settings: Settings
) -> None:
    other = await create_workspace(scripted.pool, scripted.storage, settings)
    await embed(scripted, workspace, SHARED)
    once = await recorded_usage(scripted, workspace)
    assert once == reported_usage(scripted_models) == EmbeddingUsage(calls=1, prompt_tokens=sum(map(len, SHARED)) // 4)
    own = "Use citric acid."
    await embed(scripted, workspace, [*SHARED, own])
    assert await recorded_usage(scripted, workspace) == once + EmbeddingUsage(calls=1, prompt_tokens=len(own) // 4)
    # Nothing shows whether another workspace has these texts.
    learn_call_times(scripted)
    requests = len(scripted_models.embeddings.requests)
    await embed(scripted, other, SHARED)
    assert await recorded_usage(scripted, other) == once
    await embed(scripted, other, SHARED)
    assert await recorded_usage(scripted, other) == once
    assert len(scripted_models.embeddings.requests) == requests


async def test_a_batch_with_a_text_that_nobody_has_is_a_call_for_all_of_it(
    scripted: Resources, scripted_models: ScriptedModels, workspace: Workspace, settings: Settings
) -> None:
    other = await create_workspace(scripted.pool, scripted.storage, settings)
    await embed(scripted, workspace, SHARED)
    learn_call_times(scripted)
    before = reported_usage(scripted_models)
    await embed(scripted, other, [SHARED[0], "Use citric acid."])
    assert scripted_models.embeddings.requests[-1]["input"] == [SHARED[0], "Use citric acid."]
    assert before + await recorded_usage(scripted, other) == reported_usage(scripted_models)


@pytest.mark.parametrize("reported", [ReportedUsage(None), ReportedUsage({"prompt_tokens": 1001})])
async def test_a_cached_text_has_the_usage_that_the_provider_reported_for_it(
    scripted: Resources,
    scripted_models: ScriptedModels,
    workspace: Workspace,
    settings: Settings,
    reported: ReportedUsage,
) -> None:
    other = await create_workspace(scripted.pool, scripted.storage, settings)
    scripted_models.embeddings.script(reported)
    await embed(scripted, workspace, SHARED)
    learn_call_times(scripted)
    await embed(scripted, other, SHARED)
    assert len(scripted_models.embeddings.requests) == 1
    assert await recorded_usage(scripted, other) == await recorded_usage(scripted, workspace)


async def test_without_known_times_the_model_is_called_for_cached_texts(
    scripted: Resources, scripted_models: ScriptedModels, workspace: Workspace, settings: Settings
) -> None:
    other = await create_workspace(scripted.pool, scripted.storage, settings)
    await embed(scripted, workspace, SHARED)
    await embed(scripted, other, SHARED)
    assert len(scripted_models.embeddings.requests) == 2
    assert await recorded_usage(scripted, other) == await recorded_usage(scripted, workspace)


async def test_tokens_that_the_server_does_not_report_are_counted_locally(
    scripted: Resources, scripted_models: ScriptedModels, workspace: Workspace
) -> None:
    scripted_models.embeddings.script(ReportedUsage(None))
    await embed(scripted, workspace, SHARED)
    counted = sum(chunk.input_token_count for chunk in make_chunks(SHARED))
    assert await recorded_usage(scripted, workspace) == EmbeddingUsage(1, 1, counted)


async def test_embedding_again_is_counted_again(
    scripted: Resources, scripted_models: ScriptedModels, workspace: Workspace
) -> None:
    await embed(scripted, workspace, SHARED)
    async with scripted.pool.acquire() as conn:
        await conn.execute("DELETE FROM embedding_cache")
    await embed(scripted, workspace, SHARED)
    assert await recorded_usage(scripted, workspace) == reported_usage(scripted_models)
    assert len(scripted_models.embeddings.requests) == 2


async def test_a_crash_during_a_call_loses_only_the_usage_of_that_call(
    scripted: Resources, scripted_models: ScriptedModels, workspace: Workspace
) -> None:
    await embed(scripted, workspace, SHARED)
    before = await recorded_usage(scripted, workspace)
    pause = Pause()
    scripted_models.embeddings.script(pause)
    embedding = asyncio.create_task(embed(scripted, workspace, [*SHARED, "Use citric acid."]))
    await asyncio.wait_for(pause.reached.wait(), 20)
    embedding.cancel()
    with suppress(asyncio.CancelledError):
        await embedding
    assert await recorded_usage(scripted, workspace) == before


async def test_vectors_and_usage_are_stored_in_one_transaction(
    scripted: Resources, scripted_models: ScriptedModels, workspace: Workspace, settings: Settings
) -> None:
    async with owner_of(settings) as owner:
        await owner.execute("ALTER TABLE embedding_usage RENAME TO elsewhere")
        with pytest.raises(Exception, match="embedding_usage"):
            await embed(scripted, workspace, SHARED)
        await owner.execute("ALTER TABLE elsewhere RENAME TO embedding_usage")
    await embed(scripted, workspace, SHARED)
    assert len(scripted_models.embeddings.requests) == 2
    assert (await recorded_usage(scripted, workspace)).calls == 1


async def test_usage_of_concurrent_documents_adds_up(
    scripted: Resources, scripted_models: ScriptedModels, workspace: Workspace
) -> None:
    texts = [f"Kettle number {number} boils." for number in range(24)]
    orders = [texts, texts[::-1], texts[8:] + texts[:8], texts[16:] + texts[:16]]
    await asyncio.gather(*(embed(scripted, workspace, order) for order in orders))
    # Texts requested twice at the same time are embedded and counted twice.
    assert await recorded_usage(scripted, workspace) == reported_usage(scripted_models)
