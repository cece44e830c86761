"""Upload sessions for tests: opens them, sends their parts and completes them over HTTP."""

from __future__ import annotations

import hashlib
import io
import random
from typing import TYPE_CHECKING, Any

import aiohttp

from ragsvc.db import upload_sessions

if TYPE_CHECKING:
    from ragsvc.resources import Resources
    from tests.http.conftest import Api, Tenant

MIB = 1024 * 1024
PART = 8 * MIB


def content_of(size_bytes: int) -> bytes:
    """Return reproducible random bytes."""
    return random.Random(size_bytes).randbytes(size_bytes)  # noqa: S311


# Two parts; only the last one is below the store's minimum part size.
CONTENT = content_of(PART + 1000)


async def open_upload(api: Api, size_bytes: int = len(CONTENT), **fields: object) -> dict[str, Any]:
    """Open an upload session and return it."""
    response = await api.post("/v1/uploads", {"filename": "big.txt", "size_bytes": size_bytes, **fields})
    assert response.status == 201, response.raw
    upload: dict[str, Any] = response.json
    return upload


def part_of(content: bytes, number: int) -> bytes:
    """Return the bytes of a part, counted from 1."""
    return content[(number - 1) * PART : number * PART]


async def put(api: Api, upload: dict[str, Any], number: int, data: Any, **headers: str) -> Any:
    """Send a part to the API."""
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    return await api.call("PUT", f"/v1/uploads/{upload['id']}/parts/{number}", data=body, headers=headers)


async def send_all(api: Api, upload: dict[str, Any], content: bytes = CONTENT) -> None:
    """Send every part, the last one first."""
    for number in range(upload["part_count"], 0, -1):
        response = await put(api, upload, number, part_of(content, number))
        assert response.status == 200, response.raw
        assert response.json["etag"] == hashlib.md5(part_of(content, number), usedforsecurity=False).hexdigest()


async def state_of(api: Api, upload: dict[str, Any]) -> dict[str, Any]:
    """Return the session as the API shows it."""
    state: dict[str, Any] = (await api.get(f"/v1/uploads/{upload['id']}")).json
    return state


async def complete(api: Api, upload: dict[str, Any]) -> Any:
    """Complete the session and return the response."""
    return await api.post(f"/v1/uploads/{upload['id']}/complete")


async def presign(api: Api, upload: dict[str, Any], number: int = 1) -> str:
    """Return a presigned URL for a part."""
    response = await api.post(f"/v1/uploads/{upload['id']}/part-urls", {"part_numbers": [number]})
    url: str = response.json["data"][0]["url"]
    return url


async def put_to_store(url: str, data: bytes) -> int:
    """Send data to a presigned URL and return the store's status."""
    async with aiohttp.ClientSession() as session, session.put(url, data=io.BytesIO(data)) as response:
        return response.status


async def reserved_bytes(tenant: Tenant, resources: Resources) -> int:
    """Return how many bytes open uploads reserve in the workspace."""
    async with resources.pool.acquire() as conn:
        return await upload_sessions.sum_reserved_bytes(conn, tenant.uuid)


async def make_token(api: Api, **fields: object) -> dict[str, str]:
    """Create an upload token and return it."""
    response = await api.post("/v1/upload-tokens", fields)
    assert response.status == 201, response.raw
    token: dict[str, str] = response.json
    return token
