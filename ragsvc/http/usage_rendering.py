"""What clients see of what models cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

# pydantic reads the annotations for the API's description
from ragsvc.domain.usage import UsageOperation  # noqa: TC001

if TYPE_CHECKING:
    from ragsvc.domain.usage import DailyUsage


class DailyUsageView(TypedDict):
    """What one model cost on one day (UTC), by what it was asked for: `chat` or `embeddings`.

    Answers are counted by `runs`, embeddings by `embedding_calls`: what ingestion and queries made the service ask for,
    not what it remembered. Of `estimated_runs` and `estimated_embedding_calls` the server told nothing, and we counted.
    """

    day: str
    operation: UsageOperation
    model: str
    runs: int
    estimated_runs: int
    embedding_calls: int
    estimated_embedding_calls: int
    prompt_tokens: int
    completion_tokens: int


class UsageByDayView(TypedDict):
    """What models cost, newest day first."""

    data: list[DailyUsageView]


def render_usage(usage: DailyUsage) -> DailyUsageView:
    """Return what a model cost on one day."""
    return {
        "day": usage.day.isoformat(),
        "operation": usage.operation,
        "model": usage.model,
        "runs": usage.runs,
        "estimated_runs": usage.estimated_runs,
        "embedding_calls": usage.embedding_calls,
        "estimated_embedding_calls": usage.estimated_embedding_calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }
