"""Embeds chunks. Each distinct text is embedded once, and its vector is cached as soon as it arrives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from ragsvc.db import embedding_cache, jobs, model_usage
from ragsvc.tasks import open_task_group
from ragsvc.telemetry.metrics import EMBEDDING_CHUNKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ragsvc.domain.chunks import Chunk
    from ragsvc.resources import Resources

GLOBAL_SCOPE = UUID(int=0)
# Providers also limit the tokens per call (OpenAI: 300,000).
BATCH_MAX_TOKENS = 100_000
SWEEP_BATCH = 1000


async def embed_chunks(
    resources: Resources,
    workspace_id: UUID,
    chunks: Sequence[Chunk],
    *,
    report: Callable[[int], Awaitable[None]],
) -> NDArray[np.float32]:
    """Return the vectors of the chunks, in the same order, as an array of shape (len(chunks), dimensions).

    `report` is called with the number of chunks embedded since its last call. As each model call returns, its vectors
    are cached and its usage is recorded, so that only calls in flight are repeated after a crash.

    Raises:
        ProviderRejected, TransientFailure, OutageFailure: the model call failed.
    """
    scope = _scope_of(resources, workspace_id)
    wanted = {chunk.embedding_input_hash: chunk for chunk in chunks}
    async with resources.pool.acquire() as conn:
        known = await embedding_cache.select_cached_embeddings(
            conn, space_id=resources.space.id, scope=scope, hashes=list(wanted)
        )
    vectors: dict[bytes, NDArray[np.floating]] = dict(known)
    cached = sum(chunk.embedding_input_hash in known for chunk in chunks)
    EMBEDDING_CHUNKS.labels("cache").inc(cached)
    await report(cached)
    missing = [chunk for key, chunk in wanted.items() if key not in known]
    limiter = asyncio.Semaphore(resources.settings.llm.embedding_concurrency)

    async def embed(batch: Sequence[Chunk]) -> None:
        async with limiter:
            vectors.update(await _embed_batch(resources, workspace_id, batch))
            await report(len(batch))

    async with open_task_group() as group:
        for batch in _split_batches(missing, max_texts=resources.settings.llm.embedding_batch_size):
            group.create_task(embed(batch))
    return np.asarray([vectors[chunk.embedding_input_hash] for chunk in chunks], dtype=np.float32)


async def sweep_embedding_cache(resources: Resources) -> int:
    """Delete a batch of cached vectors that were not used for EMBEDDING_CACHE_DAYS, and return their number."""
    async with resources.pool.acquire() as conn, conn.transaction():
        if not await jobs.try_lock(conn, "sweep:embedding_cache"):
            return 0
        return await embedding_cache.delete_unused_embeddings(
            conn, days=resources.settings.llm.embedding_cache_days, limit=SWEEP_BATCH
        )


async def _embed_batch(
    resources: Resources, workspace_id: UUID, batch: Sequence[Chunk]
) -> Mapping[bytes, NDArray[np.float32]]:
    embedded, usage = await resources.llm.embed(
        [chunk.embedding_input for chunk in batch], token_count=sum(chunk.input_token_count for chunk in batch)
    )
    fresh = {chunk.embedding_input_hash: vector for chunk, vector in zip(batch, embedded, strict=True)}
    EMBEDDING_CHUNKS.labels("model").inc(len(batch))
    async with resources.pool.acquire() as conn, conn.transaction():
        await embedding_cache.insert_cached_embeddings(
            conn, space_id=resources.space.id, scope=_scope_of(resources, workspace_id), vectors=fresh
        )
        await model_usage.add_embedding_usage(conn, {workspace_id: usage}, model=resources.settings.llm.embedding_model)
    return fresh


def _scope_of(resources: Resources, workspace_id: UUID) -> UUID:
    return workspace_id if resources.settings.llm.embedding_cache_scope == "workspace" else GLOBAL_SCOPE


def _split_batches(chunks: Sequence[Chunk], *, max_texts: int) -> Iterator[list[Chunk]]:
    batch: list[Chunk] = []
    tokens = 0
    for chunk in chunks:
        if batch and (len(batch) == max_texts or tokens + chunk.input_token_count > BATCH_MAX_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(chunk)
        tokens += chunk.input_token_count
    if batch:
        yield batch
