"""Reranking calls: the relevance of texts to a query, from a model that reads both together.

Supports Cohere's `POST /rerank`, which Jina, vLLM, Infinity and LiteLLM implement too, and Hugging Face's Text
Embeddings Inference (TEI).
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, assert_never

import openai

from ragsvc.errors.work import OutageFailure, TransientFailure, WorkError
from ragsvc.llm.calls import calling
from ragsvc.llm.errors import timed_out, translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.settings.settings import Settings

# After a failure the reranker is not called for this long, so that not every search waits for its timeout.
BACKOFF_S = 5.0
UNNAMED_MODEL = "reranker"


class HttpReranker:
    """Scores texts with the reranker of the settings."""

    def __init__(self, client: openai.AsyncOpenAI, settings: Settings) -> None:
        self._client = client
        self._wire = settings.llm.rerank_wire
        self._model = settings.llm.rerank_model
        self._timeout_s = settings.llm.rerank_timeout_s
        self._backoff_until = 0.0

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the relevance of each text, in order; scores are comparable only within one call.

        Raises:
            WorkError: with codes `rerank_…`. For BACKOFF_S after a failure, it is raised without calling the reranker.
        """
        if not texts:
            return []
        if time.monotonic() < self._backoff_until:
            raise OutageFailure("rerank_unreachable", "The reranker failed moments ago")
        try:
            with calling("rerank", model=self._model or UNNAMED_MODEL):
                return _read_scores(await self._request(query, texts), count=len(texts))
        except (OutageFailure, TransientFailure):
            self._backoff_until = time.monotonic() + BACKOFF_S
            raise

    async def _request(self, query: str, texts: Sequence[str]) -> object:
        try:
            async with asyncio.timeout(self._timeout_s):
                response: object = await self._client.post("/rerank", body=self._body(query, texts), cast_to=object)
        except TimeoutError:
            raise timed_out(purpose="rerank") from None
        except openai.OpenAIError as error:
            raise translate(error, purpose="rerank") from error
        except ValueError as error:
            raise _unreadable("invalid JSON") from error
        return response

    def _body(self, query: str, texts: Sequence[str]) -> dict[str, Any]:
        model = {"model": self._model} if self._model else {}
        match self._wire:
            case "cohere":
                return {**model, "query": query, "documents": list(texts), "top_n": len(texts)}
            case "tei":
                return {"query": query, "texts": list(texts), "truncate": True}
            case _:
                assert_never(self._wire)


def _read_scores(response: object, *, count: int) -> list[float]:
    rows = response.get("results") if isinstance(response, dict) else response
    scores = dict(map(_read_row, rows)) if isinstance(rows, list) else {}
    if sorted(scores) != list(range(count)):
        raise _unreadable(f"scores for {len(scores)} of {count} texts")
    return [scores[index] for index in range(count)]


def _read_row(row: object) -> tuple[int, float]:
    fields = row if isinstance(row, dict) else {}
    index, score = fields.get("index"), fields.get("relevance_score", fields.get("score"))
    if not isinstance(index, int) or not isinstance(score, (int, float)) or not math.isfinite(score):
        raise _unreadable("malformed scores")
    return index, float(score)


def _unreadable(found: str) -> WorkError:
    return TransientFailure("rerank_unavailable", f"The reranker returned {found}")
