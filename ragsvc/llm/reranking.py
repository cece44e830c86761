"""Reranking calls: how relevant each text is to a query, as a model finds that reads both together.

The wires are those of Cohere's `POST /rerank`, which Jina, vLLM, Infinity and LiteLLM speak too, and of Hugging Face's
Text Embeddings Inference (TEI).
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, assert_never

import openai

from ragsvc.errors import OutageFailure, TransientFailure, WorkError
from ragsvc.llm.calls import calling
from ragsvc.llm.errors import timed_out, translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.settings.settings import Settings

# A reranker that failed is left alone for so long: searches shall not wait for it one after the other.
AWAY_S = 5.0
UNNAMED_MODEL = "reranker"


class HttpReranker:
    """Scores texts by the reranker of the settings."""

    def __init__(self, client: openai.AsyncOpenAI, settings: Settings) -> None:
        self._client = client
        self._wire = settings.llm.rerank_wire
        self._model = settings.llm.rerank_model
        self._timeout_s = settings.llm.rerank_timeout_s
        self._away_until = 0.0

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return how relevant each text is, in their order; only comparable with one another.

        Raises:
            WorkError: with codes `rerank_…`; at once while the reranker is left alone because it failed.
        """
        if not texts:
            return []
        if time.monotonic() < self._away_until:
            raise OutageFailure("rerank_unreachable", "The reranker failed a moment ago")
        try:
            with calling("rerank", model=self._model or UNNAMED_MODEL):
                return _read_scores(await self._ask(query, texts), count=len(texts))
        except (OutageFailure, TransientFailure):
            self._away_until = time.monotonic() + AWAY_S
            raise

    async def _ask(self, query: str, texts: Sequence[str]) -> object:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer: object = await self._client.post("/rerank", body=self._body(query, texts), cast_to=object)
        except TimeoutError:
            raise timed_out(ask="rerank") from None
        except openai.OpenAIError as error:
            raise translate(error, ask="rerank") from error
        except ValueError as error:
            raise _unreadable("no JSON") from error
        return answer

    def _body(self, query: str, texts: Sequence[str]) -> dict[str, Any]:
        model = {"model": self._model} if self._model else {}
        match self._wire:
            case "cohere":
                return {**model, "query": query, "documents": list(texts), "top_n": len(texts)}
            case "tei":
                return {"query": query, "texts": list(texts), "truncate": True}
            case _:
                assert_never(self._wire)


def _read_scores(answer: object, *, count: int) -> list[float]:
    rows = answer.get("results") if isinstance(answer, dict) else answer
    scores = dict(map(_read_row, rows)) if isinstance(rows, list) else {}
    if sorted(scores) != list(range(count)):
        raise _unreadable(f"scores for {len(scores)} of {count} texts")
    return [scores[index] for index in range(count)]


def _read_row(row: object) -> tuple[int, float]:
    told = row if isinstance(row, dict) else {}
    index, score = told.get("index"), told.get("relevance_score", told.get("score"))
    if not isinstance(index, int) or not isinstance(score, (int, float)) or not math.isfinite(score):
        raise _unreadable("something else than scores")
    return index, float(score)


def _unreadable(what: str) -> WorkError:
    return TransientFailure("rerank_unavailable", f"The reranker gave {what}")
