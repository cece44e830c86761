"""A client of a running API process, and a form whose upload a test can suspend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings


class Remote:
    """A workspace of a running API process, with a key."""

    def __init__(self, session: aiohttp.ClientSession, url: str, workspace: dict[str, Any], key: str) -> None:
        self.session = session
        self.url = url
        self.workspace = workspace
        self.key = key
        self.headers = {"Authorization": f"Bearer {key}"}

    @classmethod
    async def make(cls, session: aiohttp.ClientSession, url: str, settings: Settings) -> Remote:
        """Create a workspace and a key."""
        assert settings.api.admin_api_key is not None
        admin = {"Authorization": f"Bearer {settings.api.admin_api_key.get_secret_value()}"}
        async with session.post(f"{url}/v1/workspaces", json={"name": "acme"}, headers=admin) as response:
            workspace = await response.json()
        path = f"{url}/v1/workspaces/{workspace['id']}/keys"
        async with session.post(path, json={"name": "a key"}, headers=admin) as response:
            return cls(session, url, workspace, (await response.json())["key"])

    async def upload(self, data: Any) -> dict[str, Any]:
        """Upload a form as a document, and return the document."""
        async with self.session.post(f"{self.url}/v1/documents", data=data, headers=self.headers) as response:
            assert response.status == 202, await response.text()
            document: dict[str, Any] = await response.json()
            return document


class SlowFile:
    """A form whose file ends only after `may_end` is set; `begun` is set once its upload has started."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    def form(self, **fields: str) -> aiohttp.MultipartWriter:
        """Return the form, with the other fields before the file."""
        writer = aiohttp.MultipartWriter("form-data")
        for name, value in fields.items():
            writer.append(value).set_content_disposition("form-data", name=name)
        part = writer.append(self._blocks())
        part.set_content_disposition("form-data", name="file", filename="slow.txt")
        return writer

    async def _blocks(self) -> AsyncIterator[bytes]:
        yield b"the beginning, "
        self.begun.set()
        await self.may_end.wait()
        yield b"the end"
