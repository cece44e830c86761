"""The Companion requests that @uppy/aws-s3 sends."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import aiohttp

from tests.http.conftest import Api, ApiResponse
from tests.http.support.uploads import make_token

if TYPE_CHECKING:
    from tests.http.conftest import Client


class Companion:
    """A client that sends the same requests as Uppy."""

    def __init__(self, client: Client, url: str) -> None:
        self.path = urlsplit(url).path
        self.api = Api(client, None)

    async def open(self, filename: str = "a.txt", **metadata: object) -> ApiResponse:
        """Open an upload session."""
        body = {"filename": filename, "type": "text/plain", "metadata": {"name": filename, **metadata}}
        return await self.api.post(f"{self.path}/s3/multipart", body)

    async def call(self, method: str, opened: ApiResponse, rest: str = "", **options: Any) -> ApiResponse:
        """Send a request for a session."""
        upload_id, key = opened.json["uploadId"], quote(opened.json["key"], safe="")
        return await self.api.call(method, f"{self.path}/s3/multipart/{upload_id}{rest}?key={key}", **options)

    async def put(self, opened: ApiResponse, number: int, data: bytes, *, status: int = 200) -> None:
        """Send a part to the URL for it."""
        signed = await self.call("GET", opened, f"/{number}")
        assert signed.status == 200, signed.raw
        async with (
            aiohttp.ClientSession() as session,
            session.put(signed.json["url"], data=io.BytesIO(data)) as stored,
        ):
            assert stored.status == status, await stored.read()
            assert status != 200 or stored.headers["ETag"]

    async def complete(self, opened: ApiResponse, count: int) -> ApiResponse:
        """Complete a session with `count` parts."""
        parts = [{"PartNumber": number, "ETag": '"x"'} for number in range(1, count + 1)]
        return await self.call("POST", opened, "/complete", json={"parts": parts})


async def companion_of(api: Api, **fields: object) -> Companion:
    return Companion(api.client, (await make_token(api, **fields))["companion_url"])
