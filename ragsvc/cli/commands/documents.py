"""`ragsvc documents`: lists documents and shows their text and chunks."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ragsvc.cli.client.http import open_client, segment
from ragsvc.cli.options import Json, Limit, without_none
from ragsvc.cli.output import print_fields, print_json, print_line, print_table, print_text, shorten, show_size
from ragsvc.cli.progress_view import describe_state
from ragsvc.domain.documents import DocumentStatus  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragsvc.cli.client.http import JsonObject

SNIPPET_CHARS = 200

documents = typer.Typer(no_args_is_help=False)

Document = Annotated[str, typer.Argument(help="A document's id.")]


@documents.command("list")
def list_documents(
    *,
    collection: Annotated[str | None, typer.Option(help="Only documents in this collection.")] = None,
    status: Annotated[DocumentStatus | None, typer.Option(help="Only documents with this status.")] = None,
    limit: Limit = 20,
    cursor: Annotated[str | None, typer.Option(help="Continue after the page that returned this cursor.")] = None,
    as_json: Json = False,
) -> None:
    """List documents, newest first."""
    params = without_none(collection_id=collection, status=status, limit=limit, cursor=cursor)
    page = asyncio.run(_get("/v1/documents", params=params))
    if as_json:
        print_json(page)
        return
    print_table(
        ("ID", "FILE", "SIZE", "CREATED", "STATUS"),
        [
            (one["id"], one["filename"], show_size(one["size_bytes"]), one["created_at"][:19], describe_state(one))
            for one in page["data"]
        ],
    )
    if page["next_cursor"]:
        print_line(f"more: --cursor {page['next_cursor']}")


@documents.command()
def show(document: Document, *, as_json: Json = False) -> None:
    """Show a document."""
    found = asyncio.run(_get(f"/v1/documents/{segment(document)}"))
    if as_json:
        print_json(found)
    else:
        print_fields({name: value for name, value in found.items() if name != "object"})


@documents.command()
def text(
    document: Document,
    *,
    version: Annotated[int | None, typer.Option(min=1, help="A version; the active one if omitted.")] = None,
    start: Annotated[int | None, typer.Option(min=0, help="First code point.")] = None,
    end: Annotated[int | None, typer.Option(min=0, help="Code point to stop before.")] = None,
    as_json: Json = False,
) -> None:
    """Print a document's canonical text, which chunks and citations point into."""
    params = without_none(version=version, start=start, end=end)
    found = asyncio.run(_get(f"/v1/documents/{segment(document)}/text", params=params))
    if as_json:
        print_json(found)
    elif sys.stdout.isatty():
        print_text(found["text"] + "\n")
    else:
        sys.stdout.write(found["text"])  # unchanged, so that code points can be counted


@documents.command()
def reingest(
    document: Document,
    *,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens per chunk, for this version.")] = None,
    overlap_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens that neighbouring chunks share; with --max-tokens.")
    ] = 0,
    discard_replacement: Annotated[
        bool,
        typer.Option(
            "--discard-replacement", help="Discard a replacement file that failed, and ingest the current file."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Ingest a document again. The previous version stays searchable until the new one is ready."""
    chunking = {"max_tokens": max_tokens, "overlap_tokens": overlap_tokens} if max_tokens else None
    body = {"chunking": chunking, "discard_replacement": discard_replacement}
    queued = asyncio.run(_post(f"/v1/documents/{segment(document)}/reingest", body))
    if as_json:
        print_json(queued)
    else:
        print_line(f"{queued['id']}: {queued['status']}")


@documents.command()
def chunks(document: Document, *, as_json: Json = False) -> None:
    """List a document's chunks in order."""
    found = asyncio.run(_get_pages(f"/v1/documents/{segment(document)}/chunks"))
    if as_json:
        print_json({"data": found})
        return
    print_table(
        ("#", "SOURCE", "CHARACTERS", "TOKENS", "TEXT"),
        [
            (
                one["ordinal"],
                _source(one),
                f"{one['char_start']}-{one['char_end']}",
                one["token_count"],
                shorten(one["text"], SNIPPET_CHARS),
            )
            for one in found
        ],
    )


def _source(chunk: JsonObject) -> str:
    first, last = chunk["page_first"], chunk["page_last"]
    if first is not None:
        return f"page {first}" if first == last else f"pages {first}-{last}"
    return " > ".join(chunk["heading_path"]) or "-"


async def _get(path: str, *, params: Mapping[str, object] | None = None) -> JsonObject:
    async with open_client() as client:
        return await client.get(path, params=params)


async def _post(path: str, body: object) -> JsonObject:
    async with open_client() as client:
        return await client.post(path, body=body)


async def _get_pages(path: str) -> list[JsonObject]:
    async with open_client() as client:
        return await client.pages(path)
