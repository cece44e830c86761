"""Embedding calls: texts in, validated float32 vectors and token usage out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import openai
import stamina

from ragsvc.domain.usage import EmbeddingUsage
from ragsvc.errors.work import ProviderRejected, TransientFailure
from ragsvc.llm.call_times import CallTimes
from ragsvc.llm.calls import calling
from ragsvc.llm.errors import translate
from ragsvc.llm.retries import QUICK_ATTEMPTS, QUICK_ATTEMPTS_S, should_retry_now
from ragsvc.llm.usage import read_tokens
from ragsvc.telemetry.metrics import EMBEDDING_BATCH, EMBEDDING_RATE_WAIT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from numpy.typing import NDArray
    from openai.types import CreateEmbeddingResponse, Embedding

    from ragsvc.llm.provider_rate import ProviderRate
    from ragsvc.settings.settings import Settings

# Only models with this prefix accept `dimensions`; others reject it and return vectors of a fixed length.
SHORTENABLE_MODELS = "text-embedding-3-"
CACHED_QUERIES = 1024
# Typical for queries. Denser text is halved until the model accepts it.
CHARS_PER_TOKEN = 4
SHORTEST_QUERY_CHARS = 64
REFUSED_INPUT = frozenset({400, 413, 422})
TOO_MANY_REQUESTS = 429
# Vectors are stored as halfvec.
LARGEST_STORABLE = float(np.finfo(np.float16).max)
# A vector without length has no direction, and its cosine with any other is NaN.
SMALLEST_NORM = 1e-3


class Embedder:
    """Embeds texts with the model of the settings; caches the vectors of recent queries."""

    def __init__(self, client: openai.AsyncOpenAI, settings: Settings, limit: ProviderRate) -> None:
        self._client = client
        self._limit = limit
        self._model = settings.llm.embedding_model
        self._dimensions = settings.llm.embedding_dimensions
        self._longest_query_chars = settings.llm.embedding_max_input_tokens * CHARS_PER_TOKEN
        self._times = CallTimes()
        # Kept apart by workspace: nobody learns what others have asked.
        self._queries: OrderedDict[tuple[UUID, str], NDArray[np.float32]] = OrderedDict()

    async def embed(self, texts: Sequence[str], *, token_count: int) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        """Return vectors of shape (len(texts), dimensions) and the usage of the call; raises like `LlmClient.embed`."""
        if not texts:
            return np.empty((0, self._dimensions), dtype=np.float32), EmbeddingUsage()
        started_at = time.monotonic()
        with EMBEDDING_RATE_WAIT.time():
            await self._limit.wait_for_turn(tokens=token_count)
        embedded = await self._call(texts, token_count=token_count)
        self._times.add(len(texts), seconds=time.monotonic() - started_at)
        return embedded

    async def wait_like_call(self, size: int) -> bool:
        """Wait as long as a recent call with `size` texts took; return False at once if too few are known."""
        seconds = self._times.draw(size)
        if seconds is None:
            return False
        await asyncio.sleep(seconds)
        return True

    async def embed_without_waiting(self, text: str) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        """Return the vector of a short text without waiting for the provider's rate; otherwise like `embed`."""
        token_count = len(text) // CHARS_PER_TOKEN + 1
        await self._limit.go_first(tokens=token_count)
        vectors, usage = await self._call([text], token_count=token_count)
        return vectors[0], usage

    async def embed_query(self, text: str, workspace_id: UUID) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        """Return the vector of a query, from the cache if possible; raises like `LlmClient.embed_query`."""
        key = workspace_id, text
        vector, usage = self._queries.get(key), EmbeddingUsage()
        if vector is None:
            vector, usage = await self._embed_truncated(text)
            self._queries[key] = vector
            if len(self._queries) > CACHED_QUERIES:
                self._queries.popitem(last=False)
        self._queries.move_to_end(key)
        return vector, usage

    async def _embed_truncated(self, text: str) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        text = text[: self._longest_query_chars]
        while True:
            try:
                return await self._embed_with_retries(text)
            except ProviderRejected as error:
                if error.http_status not in REFUSED_INPUT or len(text) <= SHORTEST_QUERY_CHARS:
                    raise
                text = text[: len(text) // 2]

    async def _embed_with_retries(self, text: str) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        async for attempt in stamina.retry_context(
            on=should_retry_now, attempts=QUICK_ATTEMPTS, timeout=QUICK_ATTEMPTS_S, wait_initial=0.1, wait_max=0.5
        ):
            with attempt:
                embedded = await self.embed_without_waiting(text)
        return embedded

    async def _call(self, texts: Sequence[str], *, token_count: int) -> tuple[NDArray[np.float32], EmbeddingUsage]:
        EMBEDDING_BATCH.observe(len(texts))
        with calling("embeddings", model=self._model) as call:
            response = await self._request(texts)
            vectors = self._check(response, count=len(texts))
            prompt_tokens = _read_usage(response)
            if prompt_tokens is not None:
                call.record_usage(input_tokens=prompt_tokens)
        if prompt_tokens is None:
            return vectors, EmbeddingUsage(calls=1, estimated_calls=1, prompt_tokens=token_count)
        return vectors, EmbeddingUsage(calls=1, prompt_tokens=prompt_tokens)

    async def _request(self, texts: Sequence[str]) -> CreateEmbeddingResponse:
        shortened = self._model.startswith(SHORTENABLE_MODELS)
        try:
            return await self._client.embeddings.create(
                model=self._model,
                input=list(texts),
                encoding_format="base64",
                dimensions=self._dimensions if shortened else openai.omit,
            )
        except openai.OpenAIError as error:
            failure = translate(error, purpose="embedding")
            if failure.http_status == TOO_MANY_REQUESTS and failure.retry_after_s:
                # The limit applies to all calls with the same key, not only to this one.
                await self._limit.hold(seconds=failure.retry_after_s)
            raise failure from error

    def _check(self, response: CreateEmbeddingResponse, *, count: int) -> NDArray[np.float32]:
        rows = sorted(response.data or (), key=lambda row: row.index)
        if [row.index for row in rows] != list(range(count)):
            detail = f"The embedding model returned {len(rows)} vectors for {count} texts"
            raise TransientFailure("embedding_unavailable", detail)
        vectors = [_read_vector(row) for row in rows]
        for vector in vectors:
            if vector.shape != (self._dimensions,):
                lengths = f"vectors of length {vector.size}, EMBEDDING_DIMENSIONS is {self._dimensions}"
                raise ProviderRejected("dimension_mismatch", f"{self._model} returned {lengths}")
        stacked = np.stack(vectors)
        if not np.isfinite(stacked).all():
            raise TransientFailure("embedding_unavailable", "The embedding model returned a vector that is not finite")
        if (largest := np.abs(stacked).max()) > LARGEST_STORABLE:
            detail = f"{self._model} returned the value {largest:.3g}; half precision allows {LARGEST_STORABLE:g}"
            raise ProviderRejected("embedding_rejected", detail)
        # Measured as stored: half precision turns small values into 0.
        if (np.linalg.norm(stacked.astype(np.float16).astype(np.float32), axis=1) < SMALLEST_NORM).any():
            raise TransientFailure("embedding_unavailable", "The embedding model returned a vector without length")
        return stacked


def _read_usage(response: CreateEmbeddingResponse) -> int | None:
    """Return the tokens that the server counted; None if absent or 0, which some servers send if they do not count."""
    # The SDK does not validate responses.
    return read_tokens(getattr(response.usage, "prompt_tokens", None)) or None


def _read_vector(row: Embedding) -> NDArray[np.float32]:
    # The SDK declares floats. Servers send base64 as requested, but some send floats anyway.
    encoded: object = row.embedding
    try:
        if isinstance(encoded, str):
            return np.frombuffer(base64.b64decode(encoded, validate=True), dtype="<f4").astype(np.float32, copy=False)
        return np.asarray(encoded, dtype=np.float32)
    except (binascii.Error, ValueError, TypeError) as error:
        raise TransientFailure("embedding_unavailable", "The embedding model returned an unreadable vector") from error
