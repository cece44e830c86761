"""Embeds chunks. Each distinct text is embedded once, and its vector is cached as soon as it arrives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from ragsvc.db import embedding_cache, jobs, model_usage
from ragsvc.domain.usage import EmbeddingUsage
from ragsvc.tasks import open_task_group
from ragsvc.telemetry.metrics import EMBEDDING_CHUNKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ragsvc.db.embedding_cache import CachedEmbedding
    from ragsvc.domain.chunks import Chunk
    from ragsvc.resources import Resources

GLOBAL_SCOPE = UUID(int=0)
# Providers also limit the tokens per call (OpenAI: 300,000).
BATCH_MAX_TOKENS = 100_000
SWEEP_BATCH = 1000
# Stored in place of the tokens of a text if the provider does not report any.
NOT_REPORTED = -1


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

    Vectors that this workspace has paid for come from the cache at once. One that only another workspace has paid for
    must not show that it was cached: it counts as a call and takes the time of one.

    Raises:
        ProviderRejected, TransientFailure, OutageFailure: the model call failed.
    """
    wanted = {chunk.embedding_input_hash: chunk for chunk in chunks}
    async with resources.pool.acquire() as conn:
        known = await embedding_cache.select_cached_embeddings(
            conn,
            workspace_id,
            space_id=resources.space.id,
            scope=_scope_of(resources, workspace_id),
            hashes=list(wanted),
        )
    vectors: dict[bytes, NDArray[np.floating]] = {key: cached.vector for key, cached in known.items() if cached.is_paid}
    cached = sum(chunk.embedding_input_hash in vectors for chunk in chunks)
    EMBEDDING_CHUNKS.labels("cache").inc(cached)
    await report(cached)
    unpaid = [chunk for key, chunk in wanted.items() if key not in vectors]
    limiter = asyncio.Semaphore(resources.settings.llm.embedding_concurrency)

    async def embed(batch: Sequence[Chunk]) -> None:
        async with limiter:
            vectors.update(await _embed_batch(resources, workspace_id, batch, known=known))
            await report(len(batch))

    async with open_task_group() as group:
        for batch in _split_batches(unpaid, max_texts=resources.settings.llm.embedding_batch_size):
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
    resources: Resources,
    workspace_id: UUID,
    batch: Sequence[Chunk],
    *,
    known: Mapping[bytes, CachedEmbedding],
) -> Mapping[bytes, NDArray[np.floating]]:
    """Return the vectors of a batch that the workspace has not paid for yet.

    Only a batch whose vectors are all cached is not sent to the model: the time of a smaller call would show how many
    of them are.
    """
    cached = [known.get(chunk.embedding_input_hash) for chunk in batch]
    usage = _usage_of(batch, cached)
    if usage is not None and await resources.llm.wait_like_embedding(len(batch)):
        vectors: Mapping[bytes, NDArray[np.floating]] = {
            chunk.embedding_input_hash: known[chunk.embedding_input_hash].vector for chunk in batch
        }
        EMBEDDING_CHUNKS.labels("cache").inc(len(batch))
        await _record(resources, workspace_id, list(vectors), usage=usage)
        return vectors
    embedded, usage = await resources.llm.embed(
        [chunk.embedding_input for chunk in batch], token_count=sum(chunk.input_token_count for chunk in batch)
    )
    fresh = {chunk.embedding_input_hash: vector for chunk, vector in zip(batch, embedded, strict=True)}
    EMBEDDING_CHUNKS.labels("model").inc(len(batch))
    await _record(resources, workspace_id, list(fresh), usage=usage, fresh=fresh, tokens=_tokens_of(batch, usage))
    return fresh


async def _record(
    resources: Resources,
    workspace_id: UUID,
    hashes: Sequence[bytes],
    *,
    usage: EmbeddingUsage,
    fresh: Mapping[bytes, NDArray[np.float32]] | None = None,
    tokens: Sequence[int] = (),
) -> None:
    """Store what a call has returned, that the workspace has paid for it, and its usage, in one transaction."""
    space_id, scope = resources.space.id, _scope_of(resources, workspace_id)
    async with resources.pool.acquire() as conn, conn.transaction():
        if fresh is not None:
            await embedding_cache.insert_cached_embeddings(
                conn, space_id=space_id, scope=scope, vectors=fresh, prompt_tokens=tokens
            )
        if scope == GLOBAL_SCOPE:
            await embedding_cache.insert_marks(conn, workspace_id, space_id=space_id, hashes=hashes)
        await model_usage.add_embedding_usage(conn, {workspace_id: usage}, model=resources.settings.llm.embedding_model)


def _usage_of(batch: Sequence[Chunk], cached: Sequence[CachedEmbedding | None]) -> EmbeddingUsage | None:
    """Return the usage of a call for these cached vectors; None if a vector or its number of tokens is not known."""
    tokens = [one.prompt_tokens if one else None for one in cached]
    known = [count for count in tokens if count is not None]
    if len(known) < len(tokens):
        return None
    if NOT_REPORTED in known:
        return EmbeddingUsage(1, 1, sum(chunk.input_token_count for chunk in batch))
    return EmbeddingUsage(1, 0, sum(known))


def _tokens_of(batch: Sequence[Chunk], usage: EmbeddingUsage) -> list[int]:
    """Return the tokens of each text of a call, of which the provider only reports the sum."""
    if usage.estimated_calls:
        return [NOT_REPORTED] * len(batch)
    # Providers add the same number of tokens to each text. What cannot be divided goes to the first ones.
    added, rest = divmod(usage.prompt_tokens - sum(chunk.input_token_count for chunk in batch), len(batch))
    return [max(0, chunk.input_token_count + added + (index < rest)) for index, chunk in enumerate(batch)]


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
