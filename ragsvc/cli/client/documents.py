"""Sends files to the API and follows their documents until they are ready, failed or deleted."""

from __future__ import annotations

import asyncio
import io
import mimetypes
from contextlib import ExitStack, aclosing
from typing import TYPE_CHECKING, cast

import aiohttp
import orjson

from ragsvc.cli.client.http import segment
from ragsvc.cli.client.sse import follow
from ragsvc.cli.exits import CommandFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from ragsvc.cli.client.http import Client
    from ragsvc.http.v1.deletions import DeletionView
    from ragsvc.http.v1.documents import DocumentView

SETTLED = frozenset({"ready", "failed", "deleting"})
POLL_FIRST_S = 0.05
POLL_LONGEST_S = 1.0


class CountingReader(io.BufferedReader):
    """A file that reports its read position to the event loop; aiohttp reads it in a thread."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self._loop = asyncio.get_running_loop()
        self._on_read = on_read
        self._read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        data = super().read(size)
        self._read_bytes += len(data)
        self._loop.call_soon_threadsafe(self._on_read, self._read_bytes)
        return data


async def send_file(
    client: Client,
    path: Path,
    *,
    collection_id: str | None,
    attributes: dict[str, object] | None,
    on_sent: Callable[[int], None],
) -> DocumentView:
    """Stream a file to the API and return its document; `on_sent` receives the number of bytes sent so far."""
    mime_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    with ExitStack() as readers:

        def make_form() -> aiohttp.FormData:
            form = aiohttp.FormData()
            # Small fields first, so that the service can reject them before it reads the file.
            if collection_id is not None:
                form.add_field("collection_id", collection_id)
            if attributes is not None:
                form.add_field("attributes", orjson.dumps(attributes).decode())
            try:
                reader = readers.enter_context(CountingReader(path, on_sent))
            except OSError as error:
                raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error
            form.add_field("file", reader, filename=path.name, content_type=mime_type)
            return form

        return cast("DocumentView", await client.upload("/v1/documents", make_form))


async def follow_document(client: Client, document_id: str) -> AsyncGenerator[DocumentView, None]:
    """Yield a document whenever it changes, until it is ready, failed or being deleted."""
    async with aclosing(follow(client, f"/v1/documents/{segment(document_id)}/events")) as events:
        async for event in events:
            document = cast("DocumentView", event.data)
            yield document
            if document["status"] in SETTLED:
                return


async def wait_for_deletion(client: Client, deletion_id: str) -> DeletionView:
    """Return a deletion once it is completed or failed."""
    delay_s = POLL_FIRST_S
    while True:
        deletion = cast("DeletionView", await client.get(f"/v1/deletions/{segment(deletion_id)}"))
        if deletion["status"] in {"completed", "failed"}:
            return deletion
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 1.5, POLL_LONGEST_S)
