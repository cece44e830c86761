"""An API process starts, shares its port, and drains before it stops."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest

from ragsvc.errors.base import StartupRefused
from ragsvc.http.server import serve_forever
from tests.http.support.documents import form
from tests.http.support.processes import serving
from tests.support.remote import Remote, SlowFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.resources import Resources
    from ragsvc.settings.settings import Settings

DEADLINE_S = 20.0
MIB = 1024 * 1024


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client session."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as opened:
        yield opened


async def test_a_process_serves_logs_no_secrets_and_stops(settings: Settings, session: aiohttp.ClientSession) -> None:
    async with serving(settings) as api:
        remote = await Remote.make(session, await api.started(), settings)
        async with session.get(f"{remote.url}/readyz") as response:
            assert (response.status, (await response.json())["status"]) == (200, "ready")
        path = f"{remote.url}/v1/documents?limit=1"
        async with session.get(path, headers={**remote.headers, "X-Request-Id": "abc"}) as response:
            assert response.status == 200
        assert await api.stop() == 0
        assert api.events[-1]["event"] == "api_stopped"
        logged = next(event for event in api.events if event.get("request_id") == "abc")
        assert logged["workspace_id"] == remote.workspace["id"]
        assert (logged["path"], logged["status"]) == ("/v1/documents", 200)
        assert remote.key.encode() not in api.raw_log
        assert settings.api.admin_api_key is not None
        assert settings.api.admin_api_key.get_secret_value().encode() not in api.raw_log


async def test_a_draining_process_is_not_ready_ends_streams_and_finishes_uploads(
    settings: Settings, session: aiohttp.ClientSession
) -> None:
    async with serving(settings, API_GRACE_S="20") as api:
        remote = await Remote.make(session, await api.started(), settings)
        document = await remote.upload(form(b"followed"))
        slow = SlowFile()
        uploading = asyncio.create_task(remote.upload(slow.form()))
        await asyncio.wait_for(slow.begun.wait(), DEADLINE_S)
        events = f"{remote.url}/v1/documents/{document['id']}/events"
        async with session.get(events, headers=remote.headers) as stream:
            await stream.content.readuntil(b"\n\n")
            api.process.send_signal(signal.SIGTERM)
            assert (await asyncio.wait_for(stream.read(), DEADLINE_S)).endswith(b": reconnect\n\n")
        async with aiohttp.ClientSession() as newcomer:
            async with newcomer.get(f"{remote.url}/readyz") as response:
                assert (response.status, (await response.json())["blockers"]) == (503, ["draining"])
            async with newcomer.get(events, headers=remote.headers) as response:
                assert response.status == 503
                assert response.headers["Retry-After"]
        slow.may_end.set()
        assert (await asyncio.wait_for(uploading, DEADLINE_S))["size_bytes"] == len(b"the beginning, the end")
        assert await api.exit_code() == 0


async def test_an_upload_that_outlasts_the_grace_period_is_cancelled_and_leaves_nothing(
    settings: Settings, session: aiohttp.ClientSession, resources: Resources
) -> None:
    async with serving(settings, API_GRACE_S="0.5") as api:
        remote = await Remote.make(session, await api.started(), settings)
        slow = SlowFile()
        uploading = asyncio.create_task(remote.upload(slow.form()))
        await asyncio.wait_for(slow.begun.wait(), DEADLINE_S)
        assert await api.stop() == 0
        assert any(event["event"] == "api_grace_over" for event in api.events)
        with pytest.raises(aiohttp.ClientError):
            await uploading
    assert await resources.storage.count_objects(remote.workspace["bucket"]) == 0


async def test_a_second_signal_ends_the_grace_period(settings: Settings, session: aiohttp.ClientSession) -> None:
    async with serving(settings, API_GRACE_S="600") as api:
        remote = await Remote.make(session, await api.started(), settings)
        slow = SlowFile()
        uploading = asyncio.create_task(remote.upload(slow.form()))
        await asyncio.wait_for(slow.begun.wait(), DEADLINE_S)
        api.process.send_signal(signal.SIGTERM)
        await api.logged("api_draining")
        api.process.send_signal(signal.SIGTERM)
        assert await api.exit_code() == 0
        with pytest.raises(aiohttp.ClientError):
            await uploading


async def test_processes_can_share_a_port(settings: Settings, session: aiohttp.ClientSession) -> None:
    async with serving(settings, "--reuse-port") as first:
        url = await first.started()
        port = url.rpartition(":")[2]
        async with serving(settings, "--reuse-port", PORT=port) as second:
            assert await second.started() == url
            assert await first.stop() == 0
            async with session.get(f"{url}/healthz") as response:
                assert response.status == 200


async def test_a_port_in_use_fails_the_start_with_the_reason(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupRefused, match=f"cannot listen on 127.0.0.1:{port}"):
            await serve_forever(settings.changed({"port": port}))


async def test_a_large_file_needs_constant_memory(settings: Settings, session: aiohttp.ClientSession) -> None:
    async with serving(settings) as api:
        remote = await Remote.make(session, await api.started(), settings)
        await remote.upload(form(b"warm"))
        before = api.peak_memory_bytes()
        content = bytes(50 * MIB)
        document = await remote.upload(form(content, filename="large.bin"))
        assert document["size_bytes"] == len(content)
        async with session.get(f"{remote.url}/v1/documents/{document['id']}/content", headers=remote.headers) as got:
            same = await got.read() == content
        assert same, "the content differs"
        # Two parts of UPLOAD_PART_SIZE_BYTES (8 MiB), and the copies in the S3 client.
        assert api.peak_memory_bytes() - before < 40 * MIB
