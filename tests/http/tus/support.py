"""Requests of a tus client, and helpers that wait for the state of an upload."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ragsvc.http.contract.ids import parse_id
from ragsvc.uploads.sessions import load_session
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.uploads import Upload
    from ragsvc.resources import Resources
    from tests.http.conftest import Api, ApiResponse, Tenant

MIB = 1024 * 1024
PART = 8 * MIB
TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}


def content_of(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)  # noqa: S311


SMALL = content_of(1000)
# Three parts, the last one small.
LARGE = content_of(2 * PART + 1000)


def metadata(**values: str) -> dict[str, str]:
    pairs = (f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())
    return {"Upload-Metadata": ",".join(pairs)}


def checksum(name: str, data: bytes) -> dict[str, str]:
    digest = hashlib.new(name, data, usedforsecurity=False).digest()
    return {"Upload-Checksum": f"{name} {base64.b64encode(digest).decode()}"}


async def create(api: Api, size_bytes: int = len(SMALL), **headers: str) -> str:
    response = await api.call("POST", "/tus", headers={**TUS, "Upload-Length": str(size_bytes), **headers})
    assert response.status == 201, response.raw
    assert response.headers["Upload-Offset"] == "0"
    return response.headers["Location"]


async def patch(api: Api, path: str, offset: int, data: Any, **headers: str) -> ApiResponse:
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    return await api.call("PATCH", path, data=body, headers={**BODY, "Upload-Offset": str(offset), **headers})


async def head(api: Api, path: str) -> ApiResponse:
    return await api.call("HEAD", path, headers=TUS)


async def offset_of(api: Api, path: str) -> int:
    response = await head(api, path)
    assert response.status == 200, response.status
    assert response.headers["Cache-Control"] == "no-store"
    return int(response.headers["Upload-Offset"])


async def session_of(api: Api, path: str) -> dict[str, Any]:
    state: dict[str, Any] = (await api.get(f"/v1/uploads/{path.rpartition('/')[2]}")).json
    return state


async def assert_stored(api: Api, response: ApiResponse, content: bytes) -> dict[str, Any]:
    document: dict[str, Any] = (await api.get(f"/v1/documents/{response.headers['Ragsvc-Document-Id']}")).json
    stored = await api.get(f"/v1/documents/{document['id']}/content")
    assert hashlib.sha256(stored.raw).digest() == hashlib.sha256(content).digest()
    return document


async def row_of(resources: Resources, tenant: Tenant, path: str) -> Upload:
    return await load_session(resources, tenant.uuid, parse_id("upl", path.rpartition("/")[2]))


@asynccontextmanager
async def sending(
    api: Api, path: str, offset: int, length: int, *, port: int | None = None, checksum: str | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection and send the head of a PATCH; the connection is aborted on exit."""
    reader, writer = await asyncio.open_connection(api.client.host, port or api.client.port)
    every = {**api.headers, **BODY, "Host": "x", "Upload-Offset": str(offset), "Content-Length": str(length)}
    every |= {"Upload-Checksum": checksum} if checksum else {}
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    writer.write(f"PATCH {path} HTTP/1.1\r\n{lines}\r\n".encode())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def wait_until_locked(resources: Resources, path: str) -> None:
    """Wait until a request has locked the upload."""

    async def look() -> object:
        async with resources.pool.acquire() as conn:
            return await conn.fetchval(
                "SELECT writer FROM upload_sessions WHERE id = $1", parse_id("upl", path.rpartition("/")[2])
            )

    await until(look, what="the lock")


async def wait_for_offset(api: Api, path: str, offset: int) -> None:
    """Wait until the upload has this offset."""

    async def look() -> bool:
        return await offset_of(api, path) == offset

    await until(look, what=f"offset {offset}")


async def append_once_unlocked(api: Api, path: str, data: bytes, *, offset: int, **headers: str) -> ApiResponse:
    """Retry an append until no earlier request holds the lock of the upload."""

    async def attempt() -> ApiResponse | None:
        response = await patch(api, path, offset, data, **headers)
        return None if response.status == 423 else response

    return await until(attempt, timeout_s=10)
