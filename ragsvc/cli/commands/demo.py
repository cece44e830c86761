"""`ragsvc demo`: runs the whole service on sample documents, from an empty directory to a clean stop."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ragsvc.cli.client import answers
from ragsvc.cli.client.documents import wait_for_deletion
from ragsvc.cli.client.http import open_client
from ragsvc.cli.client.receipts import print_receipt
from ragsvc.cli.commands.delete import request_deletion
from ragsvc.cli.commands.samples import SAMPLES
from ragsvc.cli.commands.upload import Upload, upload_files
from ragsvc.cli.demo_stack import open_stack
from ragsvc.cli.exits import CommandFailed, Terminated
from ragsvc.cli.output import print_line
from ragsvc.cli.progress_view import open_progress_view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.cli.client.http import Client
    from ragsvc.cli.client.target import Target
    from ragsvc.http.v1.documents import DocumentView

FILES = ("handbook.pdf", "policy.docx", "release-notes.html", "notes.md")
QUESTIONS = (
    "At what wind speed does the dome have to be closed?",
    "Which group does a user have to join on Linux to reach the camera?",
)
DELETED = "release-notes.html"
NEXT = (
    "next: `make dev` runs the service until Ctrl-C. In a second terminal:",
    "  . .venv/bin/activate",
    "  ragsvc samples samples",
    "  ragsvc upload samples/*",
    '  ragsvc ask "At what wind speed does the dome have to be closed?"',
)
SEARCH = "Which problems were fixed in Vesper 4.2?"


def demo(
    *, keeps_running: Annotated[bool, typer.Option("--keep", help="Leave the service running until Ctrl-C.")] = False
) -> None:
    """Start the whole service, upload four documents, ask two questions, delete a document, and stop everything.

    Its data is in a temporary directory; stores named by DATABASE_URL, REDIS_URL or S3_ENDPOINT_URL are not used. With
    OPENAI_BASE_URL, that server's chat model replaces the built-in one.
    """
    asyncio.run(_run(keeps_running=keeps_running))


async def _run(*, keeps_running: bool) -> None:
    started = time.monotonic()
    with _sigterm_cancels():
        _headline("Starting Postgres, Redis, S3, models, API and workers")
        async with open_stack() as target:
            print_line(f"ready at {target.base_url} after {time.monotonic() - started:.1f} s")
            async with open_client(target) as client:
                await _show(client)
            if keeps_running:
                await _wait_for_ctrl_c(target)
            _headline("Stopping everything")
    print_line(f"done in {time.monotonic() - started:.0f} s")
    for line in NEXT:
        print_line(line)


async def _show(client: Client) -> None:
    _headline("Uploading four documents")
    documents = await _upload(client)
    for question in QUESTIONS:
        _headline(f"Asking: {question}")
        await _ask(client, question)
    _headline(f"Deleting {DELETED}")
    await _delete(client, documents[DELETED]["id"])


async def _upload(client: Client) -> dict[str, DocumentView]:
    paths = [SAMPLES / name for name in FILES]
    with open_progress_view(FILES, [path.stat().st_size for path in paths]) as view:
        uploaded = await upload_files(client, paths, Upload(), view=view)
    for one in uploaded:
        if one.error is not None:
            raise CommandFailed(f"{one.path.name}: {one.error.message}")
    return {one.path.name: cast("DocumentView", one.document) for one in uploaded}


async def _ask(client: Client, question: str) -> None:
    session = await client.post("/v1/chat/sessions", body={"title": question})
    typist = answers.Typist()
    await answers.ask(client, session["id"], {"content": question}, reader=typist)
    if not typist.citations:
        raise CommandFailed("the answer has no citation")


async def _delete(client: Client, document_id: str) -> None:
    deletion_id = await request_deletion(client, document_id)
    # Search while the deletion may still be running: once it is acknowledged, searches must not find the document.
    found = await client.post("/v1/search", body={"query": SEARCH})
    if any(hit["document_id"] == document_id for hit in found["data"]):
        raise CommandFailed("a search found the deleted document")
    print_line(f"Searches no longer find it: {len(found['data'])} hits for “{SEARCH}”, none from this file.")
    deletion = await wait_for_deletion(client, deletion_id)
    print_receipt(deletion)
    if deletion["status"] != "completed":
        raise CommandFailed("the deletion failed")


async def _wait_for_ctrl_c(target: Target) -> None:
    _headline("Running until Ctrl-C")
    print_line(f"curl -H 'Authorization: Bearer {target.api_key}' {target.base_url}/v1/documents")
    await asyncio.Event().wait()


def _headline(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {text}{plain}", flush=True)


@contextmanager
def _sigterm_cancels() -> Iterator[None]:
    """Make SIGTERM stop everything as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received = []

    def cancel() -> None:
        received.append(signal.SIGTERM)
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, cancel)
    try:
        yield
    except asyncio.CancelledError:
        if received:
            raise Terminated("stopped by SIGTERM") from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
