"""Token usage of the models: /v1/usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.db import model_usage
from ragsvc.domain.usage import DailyUsage, UsageOperation
from ragsvc.domain.workspaces import Scope
from ragsvc.errors.requests import InvalidRequest
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Day, Query, read_query
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.state import resources_of

routes = web.RouteTableDef()

MAX_DAYS = 366
DEFAULT_DAYS = 30


class UsageQuery(Query):
    """Which days, in UTC; the last 30 by default, at most 366."""

    first: Annotated[Day | None, Field(description="The first day.")] = None
    last: Annotated[Day | None, Field(description="The last day; today by default.")] = None


class DailyUsageView(TypedDict):
    """One model's token usage on one day (UTC) for one operation, `chat` or `embeddings`.

    `runs` counts answers. `embedding_calls` counts calls to the embedding server, so cached embeddings are not
    included. `estimated_runs` and `estimated_embedding_calls` count those whose usage ragsvc estimated, because the
    server did not report it.
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
    """Token usage, newest day first."""

    data: list[DailyUsageView]


def render_usage(usage: DailyUsage) -> DailyUsageView:
    """Return a model's usage on one day."""
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


@routes.get("/v1/usage")
@operation("Show the token usage by day and model", Scope.READ, query=UsageQuery, responses={200: UsageByDayView})
async def get_usage(request: web.Request) -> web.Response:
    """Return the token usage of the workspace's answers and embeddings."""
    query = read_query(request, UsageQuery)
    last = query.last or datetime.now(UTC).date()
    first = query.first or last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise InvalidRequest(fields={"first": f"must not be after `last`, and less than {MAX_DAYS} days before it"})
    async with resources_of(request).pool.acquire() as conn:
        found = await model_usage.select_usage(conn, caller_of(request).workspace.id, first=first, last=last)
    return json_response({"data": [render_usage(usage) for usage in found]})
