"""What the models cost a workspace."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


class UsageOperation(StrEnum):
    """What a model was asked for, as OpenTelemetry names it (gen_ai.operation.name)."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class EmbeddingUsage:
    """What calls of the embedding model cost; of `estimated_calls` the server told nothing, and we counted."""

    calls: int = 0
    estimated_calls: int = 0
    prompt_tokens: int = 0

    def __add__(self, other: EmbeddingUsage) -> EmbeddingUsage:
        """Return the cost of both."""
        return EmbeddingUsage(
            self.calls + other.calls,
            self.estimated_calls + other.estimated_calls,
            self.prompt_tokens + other.prompt_tokens,
        )


@dataclass(frozen=True, slots=True)
class DailyUsage:
    """What one model cost a workspace on one day (UTC): answers, which are runs, or calls of the embedding model.

    Of `estimated_runs` and `estimated_embedding_calls` we counted the tokens.
    """

    day: date
    operation: UsageOperation
    model: str
    runs: int
    estimated_runs: int
    embedding_calls: int
    estimated_embedding_calls: int
    prompt_tokens: int
    completion_tokens: int
