"""`ragsvc ask`: asks a question; streams the answer and its citations."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client import answers
from ragsvc.cli.client.http import open_client
from ragsvc.cli.options import Collections, Filters, Json, read_json_object, without_none
from ragsvc.cli.output import print_json

if TYPE_CHECKING:
    from ragsvc.cli.client.http import Client, JsonObject


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    *,
    session: Annotated[str | None, typer.Option(help="A chat session's id; a new session if omitted.")] = None,
    collection: Collections = None,
    filters: Filters = None,
    limit: Annotated[int | None, typer.Option(min=1, max=100, help="Maximum number of sources.")] = None,
    model: Annotated[str | None, typer.Option(help="The model of a new session.")] = None,
    instructions: Annotated[str | None, typer.Option(help="Instructions of a new session.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a question; stream the answer and its citations. With --json: the events, one JSON object per line."""
    message = without_none(content=question, filters=read_json_object(filters, option="--filters"), limit=limit)
    new_session = without_none(collection_ids=collection or None, model=model, instructions=instructions)
    if session is not None and new_session:
        raise typer.BadParameter("--collection, --model and --instructions are for a new session, not for --session")
    asyncio.run(_ask(message, session, new_session, as_json=as_json))


async def _ask(message: JsonObject, session_id: str | None, new_session: JsonObject, *, as_json: bool) -> None:
    async with open_client() as client:
        session_id = session_id or await _create_session(client, new_session, as_json=as_json)
        reader = answers.JsonLines() if as_json else answers.Typist()
        await answers.ask(client, session_id, message, reader=reader)
        if sys.stderr.isatty() and not as_json:
            print(f"(continue with --session {session_id})", file=sys.stderr)


async def _create_session(client: Client, new_session: JsonObject, *, as_json: bool) -> str:
    session = await client.post("/v1/chat/sessions", body=new_session)
    if as_json:
        print_json({"event": "session.created", "id": None, "data": session})
    return str(session["id"])
