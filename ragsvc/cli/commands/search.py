"""`ragsvc search`: finds the best chunks for a query."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client.http import open_client
from ragsvc.cli.options import Collections, Filters, Json, Limit, read_json_object, without_none
from ragsvc.cli.output import print_json, print_line, shorten, show_source
from ragsvc.domain.search import SearchMode

if TYPE_CHECKING:
    from ragsvc.cli.client.http import JsonObject

SNIPPET_CHARS = 220


def search(
    query: Annotated[str, typer.Argument(help="The query.")],
    *,
    collection: Collections = None,
    filters: Filters = None,
    limit: Limit = 10,
    mode: Annotated[SearchMode, typer.Option(help="Which index to search.")] = SearchMode.HYBRID,
    min_score: Annotated[float | None, typer.Option(help="Minimum cosine similarity of a hit.")] = None,
    as_json: Json = False,
) -> None:
    """Search the documents."""
    body = without_none(
        query=query,
        collection_ids=collection or None,
        filters=read_json_object(filters, option="--filters"),
        limit=limit,
        mode=mode,
        min_score=min_score,
    )
    found = asyncio.run(_search(body))
    if as_json:
        print_json(found)
        return
    for rank, hit in enumerate(found["data"], start=1):
        print_line(f"{rank:>3}. {_show_score(hit['score'])}  {show_source(hit)}")
        print_line(f"     {shorten(hit['text'], SNIPPET_CHARS)}")
    if not found["data"]:
        print_line("nothing found")


def _show_score(score: float | None) -> str:
    # An older service reports no score for a chunk without a vector.
    return "    -" if score is None else f"{score:.3f}"


async def _search(body: dict[str, object]) -> JsonObject:
    async with open_client() as client:
        return await client.post("/v1/search", body=body)
