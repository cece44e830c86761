"""What models have cost: /v1/usage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from ragsvc.db import model_usage
from ragsvc.domain.usage import DailyUsage, UsageOperation
from ragsvc.domain.workspaces import Scope
from ragsvc.errors import InvalidRequest
from ragsvc.http.auth import caller_of
from ragsvc.http.contract.bodies import Day, Query, read_query
from ragsvc.http.contract.operations import operation
from ragsvc.http.contract.rendering import json_response
from ragsvc.http.state import resources_of

routes = web.RouteTableDef()

LONGEST_DAYS = 366
USUAL_DAYS = 30


class UsageQuery(Query):
    """Which days, in UTC; the last 30 by default, at most 366."""

    first: Annotated[Day | None, Field(description="The first day.")] = None
    last: Annotated[Day | None, Field(description="The last day; today by default.")] = None


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


@routes.get("/v1/usage")
@operation("Show what models cost, by day and model", Scope.READ, query=UsageQuery, responses={200: UsageByDayView})
async def show_usage(request: web.Request) -> web.Response:
    """Answer the tokens of the workspace's answers and embeddings."""
    query = read_query(request, UsageQuery)
    last = query.last or datetime.now(UTC).date()
    first = query.first or last - timedelta(days=USUAL_DAYS - 1)
    if not 0 <= (last - first).days < LONGEST_DAYS:
        raise InvalidRequest(fields={"first": f"has to be before `last`, and less than {LONGEST_DAYS} days"})
    async with resources_of(request).pool.acquire() as conn:
        found = await model_usage.select_usage(conn, caller_of(request).workspace.id, first=first, last=last)
    return json_response({"data": [render_usage(usage) for usage in found]})
