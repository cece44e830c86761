"""Parts are stored completely or not at all, and calls to an unresponsive store time out."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

import pytest
from yarl import URL

from ragsvc.errors.work import ProviderRejected, TransientFailure
from ragsvc.storage.store import open_storage
from tests.http.support.proxy import TearingProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from ragsvc.storage.store import Storage

KEY = "objects/a"
BODY = bytes(range(256)) * 40_000


async def test_the_store_rejects_a_part_that_was_corrupted_in_transit(storage: Storage, workspace: Workspace) -> None:
    upload_id = await storage.create_multipart(workspace.bucket, KEY, mime_type="text/plain")

    async def changed() -> AsyncIterator[bytes]:
        yield b"other"

    with pytest.raises(ProviderRejected, match="BadDigest"):
        await storage.stream_part(
            workspace.bucket,
            KEY,
            upload_id=upload_id,
            number=1,
            size_bytes=5,
            body=changed(),
            headers={"Content-MD5": "XUFAKrxLKna5cZ2REBfFkg=="},
        )
    assert await storage.list_parts(workspace.bucket, KEY, upload_id=upload_id) == []


async def test_a_part_in_memory_is_retried_when_its_connection_breaks(
    settings: Settings, storage: Storage, workspace: Workspace
) -> None:
    url = URL(settings.stores.s3_endpoint_url or "")
    limits = iter([100_000, 5_000_000, len(BODY) * 2])
    upload_id = await storage.create_multipart(workspace.bucket, KEY, mime_type="text/plain")
    async with TearingProxy(str(url.host), int(url.port or 0), lambda: next(limits)) as proxy:
        torn = settings.changed({"s3_endpoint_url": f"http://{proxy.host}:{proxy.port}"})
        async with open_storage(torn) as by_proxy:
            part = await by_proxy.upload_part(workspace.bucket, KEY, upload_id=upload_id, number=1, body=BODY)
        assert proxy.torn == 2
    assert part.etag == hashlib.md5(BODY, usedforsecurity=False).hexdigest()
    assert await storage.list_parts(workspace.bucket, KEY, upload_id=upload_id) == [part]


async def test_a_store_that_stops_reading_times_out(settings: Settings) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield BODY

    # The kernel accepts the connection and the first bytes, and nothing ever reads them.
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        async with open_storage(settings.changed({"s3_endpoint_url": url, "s3_timeout_s": 0.3})) as storage:
            with pytest.raises(TransientFailure):
                await storage.stream_part("b", KEY, upload_id="u", number=1, size_bytes=len(BODY), body=body())
