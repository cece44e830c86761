"""The embedding usage of a workspace, read from Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ragsvc.db.model_usage import select_usage
from ragsvc.domain.usage import EmbeddingUsage, UsageOperation

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.db.connections.pool import Pool


async def embeddings_of(pool: Pool, workspace_id: UUID) -> dict[str, EmbeddingUsage]:
    """Return the workspace's embedding usage by model, for today and, in case midnight has just passed, yesterday."""
    today = datetime.now(UTC).date()
    async with pool.acquire() as conn:
        days = await select_usage(conn, workspace_id, first=today - timedelta(days=1), last=today)
    by_model: dict[str, EmbeddingUsage] = {}
    for day in days:
        if day.operation is UsageOperation.EMBEDDINGS:
            usage = EmbeddingUsage(day.embedding_calls, day.estimated_embedding_calls, day.prompt_tokens)
            by_model[day.model] = by_model.get(day.model, EmbeddingUsage()) + usage
    return by_model
