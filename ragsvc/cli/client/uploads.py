"""Uploads a file: a small one in one request, a larger one in resumable parts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import mimetypes
import os
from typing import TYPE_CHECKING, Any, cast

import stamina

from ragsvc.cli.client.documents import send_file
from ragsvc.cli.client.http import Refused, segment
from ragsvc.cli.client.resume_state import ResumeState
from ragsvc.cli.exits import CommandFailed, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ragsvc.cli.client.http import Client, JsonObject
    from ragsvc.http.v1.documents import DocumentView

# Up to this size, resending the whole file is faster than opening an upload session.
LARGEST_IN_ONE_REQUEST = 8 * 1024 * 1024
PARALLEL_PARTS = 4
# Attempts per request, enough for bad connections and service restarts. If all of them fail, running the command again
# resumes the upload.
TRIES = 8
LONGEST_WAIT_S = 10.0
OPEN = frozenset({"pending", "completing", "completed"})
SESSION_IS_OVER = frozenset({"not_found", "upload_not_pending"})


async def send_document(
    client: Client,
    path: Path,
    *,
    collection_id: str | None,
    attributes: dict[str, object] | None,
    on_sent: Callable[[int], None],
) -> DocumentView:
    """Send a file and return its document; `on_sent` receives the number of bytes that have arrived.

    Raises:
        CommandFailed: the file cannot be read, or the service refuses it.
        Unreachable: the service stayed unreachable; the same command resumes the upload later.
    """
    size_bytes = _measure(path)
    if size_bytes <= LARGEST_IN_ONE_REQUEST:
        return await send_file(client, path, collection_id=collection_id, attributes=attributes, on_sent=on_sent)
    fields = {"collection_id": collection_id, "attributes": attributes}
    resume_state = ResumeState.of_file(path, base_url=client.base_url, fields=fields)
    upload = await _find_open(client, resume_state.read()) or await _open(client, path, size_bytes, fields)
    resume_state.write(upload["id"])
    if upload["status"] == "pending":
        await _send_missing(client, path, upload, on_sent=on_sent)
    on_sent(size_bytes)
    document = await _persist(client, "POST", f"{_path(upload)}/complete")
    resume_state.forget()
    return cast("DocumentView", document)


async def _find_open(client: Client, upload_id: str | None) -> JsonObject | None:
    """Return the session of an earlier attempt if it is still open, else None."""
    if upload_id is None:
        return None
    try:
        upload = await _persist(client, "GET", f"/v1/uploads/{segment(upload_id)}")
    except Refused as refused:
        if refused.code in SESSION_IS_OVER:
            return None
        raise
    return upload if upload["status"] in OPEN else None


async def _open(client: Client, path: Path, size_bytes: int, fields: dict[str, Any]) -> JsonObject:
    body = {
        "filename": path.name,
        "size_bytes": size_bytes,
        "mime_type": mimetypes.guess_type(path.name)[0] or "",
        **{name: value for name, value in fields.items() if value is not None},
    }
    opened = await _persist(client, "POST", "/v1/uploads", body=body)
    return {**opened, "missing": list(range(1, opened["part_count"] + 1)), "received_bytes": 0}


async def _send_missing(client: Client, path: Path, upload: JsonObject, *, on_sent: Callable[[int], None]) -> None:
    """Send the missing parts, several at a time."""
    turns = asyncio.Semaphore(PARALLEL_PARTS)
    arrived_bytes: int = upload["received_bytes"]
    on_sent(arrived_bytes)

    async def send(number: int) -> None:
        nonlocal arrived_bytes
        async with turns:
            part = await asyncio.to_thread(_read_part, path, upload, number)
            await _put(client, f"{_path(upload)}/parts/{number}", part)
            arrived_bytes += len(part)
            on_sent(arrived_bytes)

    try:
        async with asyncio.TaskGroup() as group:
            for number in upload["missing"]:
                group.create_task(send(number))
    except* CommandFailed as failed:
        raise failed.exceptions[0] from None


def _measure(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error


def _read_part(path: Path, upload: JsonObject, number: int) -> bytes:
    size_bytes, offset = upload["part_size_bytes"], (number - 1) * upload["part_size_bytes"]
    try:
        with path.open("rb") as file:
            part = os.pread(file.fileno(), size_bytes, offset)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error
    if len(part) != min(size_bytes, upload["size_bytes"] - offset):
        raise CommandFailed(f"{path} changed while it was being sent")
    return part


@stamina.retry(on=Unreachable, attempts=TRIES, timeout=None, wait_initial=0.2, wait_max=LONGEST_WAIT_S)
async def _persist(client: Client, method: str, path: str, *, body: object = None) -> JsonObject:
    return await client.request(method, path, body=body)


@stamina.retry(on=Unreachable, attempts=TRIES, timeout=None, wait_initial=0.2, wait_max=LONGEST_WAIT_S)
async def _put(client: Client, path: str, part: bytes) -> None:
    content_md5 = base64.b64encode(hashlib.md5(part, usedforsecurity=False).digest()).decode()
    await client.put(path, part, headers={"Content-MD5": content_md5})


def _path(upload: JsonObject) -> str:
    return f"/v1/uploads/{segment(upload['id'])}"
