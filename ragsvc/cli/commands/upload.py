"""`ragsvc upload`: streams files to the API and follows their documents."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import stamina.instrumentation
import typer

from ragsvc.cli.client.documents import follow_document
from ragsvc.cli.client.http import open_client
from ragsvc.cli.client.uploads import send_document
from ragsvc.cli.exits import CommandFailed, say
from ragsvc.cli.options import Collection, Json, read_json_object
from ragsvc.cli.output import clean, print_json
from ragsvc.cli.progress_view import open_progress_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.cli.client.http import Client
    from ragsvc.cli.progress_view import ProgressView
    from ragsvc.http.v1.documents import DocumentView

# Files uploaded at the same time.
PARALLEL = 4


@dataclass(frozen=True, slots=True)
class Upload:
    """The options of an upload."""

    collection_id: str | None = None
    attributes: dict[str, object] | None = None
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The result for one file: its document in the latest known state, and the error if it failed."""

    path: Path
    document: DocumentView | None
    error: CommandFailed | None = None


def upload(
    files: Annotated[list[Path], typer.Argument(help="Files to upload.", exists=True, dir_okay=False, readable=True)],
    *,
    collection: Collection = None,
    attributes: Annotated[str | None, typer.Option(help='Attributes, as JSON: {"year": 2026}.')] = None,
    wait: Annotated[bool, typer.Option(help="Wait until every document is ready or failed.")] = True,
    as_json: Json = False,
) -> None:
    """Upload files and follow them until they are ready.

    A large file is sent in parts; after an interruption, the same command resumes the upload.
    """
    options = Upload(collection, read_json_object(attributes, option="--attributes"), wait)
    uploaded = asyncio.run(_upload(files, options, quiet=as_json))
    if as_json:
        print_json({"data": [_render(one) for one in uploaded]})
    failures = [one for one in uploaded if one.error is not None]
    for one in failures:
        say(f"{one.path}: {one.error}")
    if failures:
        raise typer.Exit(max(one.error.exit_code for one in failures if one.error is not None))


async def _upload(files: Sequence[Path], options: Upload, *, quiet: bool) -> list[Uploaded]:
    # stamina logs every retry to stdout, which is for results.
    stamina.instrumentation.set_on_retry_hooks(())
    sizes_bytes = [path.stat().st_size for path in files]
    with open_progress_view([path.name for path in files], sizes_bytes, quiet=quiet) as view:
        async with open_client() as client:
            return await upload_files(client, files, options, view=view)


async def upload_files(client: Client, files: Sequence[Path], options: Upload, *, view: ProgressView) -> list[Uploaded]:
    """Upload files concurrently and return the result for each; a failure does not stop the others."""
    turns = asyncio.Semaphore(PARALLEL)

    async def upload_one(index: int, path: Path) -> Uploaded:
        async with turns:
            return await _upload_file(client, path, options, view=view, index=index)

    return await asyncio.gather(*(upload_one(index, path) for index, path in enumerate(files)))


async def _upload_file(client: Client, path: Path, options: Upload, *, view: ProgressView, index: int) -> Uploaded:
    document: DocumentView | None = None
    try:
        document = await send_document(
            client,
            path,
            collection_id=options.collection_id,
            attributes=options.attributes,
            on_sent=lambda size_bytes: view.sent(index, size_bytes),
        )
        view.show(index, document)
        if options.wait:
            document = await _follow(client, document, view=view, index=index)
    except asyncio.CancelledError:
        _say_interrupted(path, document)
        raise
    except CommandFailed as error:
        view.fail(index, error.message)
        return Uploaded(path, document, error)
    return Uploaded(path, document, _failure_of(document))


def _say_interrupted(path: Path, document: DocumentView | None) -> None:
    """Say what Ctrl-C has left behind."""
    if document is None:
        state = "interrupted; the same command resumes a large file, and sends a small one again"
    else:
        state = f"the service goes on with {document['id']}; `ragsvc documents show` shows its status"
    print(f"{path}: {state}", file=sys.stderr)


async def _follow(client: Client, document: DocumentView, *, view: ProgressView, index: int) -> DocumentView:
    async with aclosing(follow_document(client, document["id"])) as changes:
        async for changed in changes:
            document = changed
            view.show(index, document)
    return document


def _failure_of(document: DocumentView) -> CommandFailed | None:
    if document["status"] == "deleting":
        return CommandFailed("the document was deleted in the meantime")
    if document["status"] != "failed":
        return None
    error = document["error"]
    return CommandFailed(f"{error['message']} ({error['code']})" if error else "the ingestion failed")


def _render(uploaded: Uploaded) -> dict[str, object]:
    error = uploaded.error.message if uploaded.error else None
    return {"file": clean(str(uploaded.path)), "document": uploaded.document, "error": error}
