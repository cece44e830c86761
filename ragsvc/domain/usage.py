"""Model usage of a workspace."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


class UsageOperation(StrEnum):
    """The kind of model call, as in OpenTelemetry's gen_ai.operation.name."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class EmbeddingUsage:
    """Usage of the embedding model; `estimated_calls` are those whose tokens were counted locally."""

    calls: int = 0
    estimated_calls: int = 0
    prompt_tokens: int = 0

    def __add__(self, other: EmbeddingUsage) -> EmbeddingUsage:
        """Return the sum of both."""
        return EmbeddingUsage(
            self.calls + other.calls,
            self.estimated_calls + other.estimated_calls,
            self.prompt_tokens + other.prompt_tokens,
        )


@dataclass(frozen=True, slots=True)
class DailyUsage:
    """Usage of one model by a workspace on one day (UTC): chat runs or embedding calls.

    The tokens of `estimated_runs` and `estimated_embedding_calls` were counted locally.
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
