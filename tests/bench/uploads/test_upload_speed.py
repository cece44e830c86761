"""Uploads are nearly as fast as the store itself, in constant memory: `make bench`, on an idle machine."""

from __future__ import annotations

import asyncio
import io
import os
import random
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aioboto3
import aiohttp
import psutil
import pytest

from ragsvc.devstack.parts.services import Api
from ragsvc.devstack.ports import LOOPBACK, free_ports
from ragsvc.devstack.stack import open_folders, start
from tests.bench.table import at_most, ratio_at_least
from tests.support.environment import variables_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.settings.settings import Settings
    from tests.bench.table import BenchTable

MIB = 1024 * 1024
SIZE = 256 * MIB
PART = 8 * MIB
PARALLEL = 4
BIG = 1024 * MIB
MEMORY_GROWTH_MIB = 64
MANY = 64


class Service:
    """An API process and a client with a workspace key."""

    def __init__(self, session: aiohttp.ClientSession, pid: int) -> None:
        self.session = session
        self.pid = pid
        self.peak_bytes = 0

    async def call(self, method: str, path: str, **options: Any) -> Any:
        async with self.session.request(method, path, **options) as answer:
            assert answer.ok, await answer.text()
            return await answer.json()

    async def open(self, size_bytes: int) -> Any:
        return await self.call("POST", "/v1/uploads", json={"filename": "a.bin", "size_bytes": size_bytes})

    async def send_through(self, content: bytes) -> None:
        """Send a file's parts through the API."""
        upload = await self.open(len(content))

        async def send(number: int) -> None:
            part = io.BytesIO(content[(number - 1) * PART : number * PART])
            await self.call("PUT", f"/v1/uploads/{upload['id']}/parts/{number}", data=part)

        await in_parallel(send, upload["part_count"])
        await self.call("POST", f"/v1/uploads/{upload['id']}/complete")

    async def send_presigned(self, content: bytes) -> None:
        """Send a file's parts directly to the store."""
        upload = await self.open(len(content))
        numbers = list(range(1, upload["part_count"] + 1))
        urls = await self.call("POST", f"/v1/uploads/{upload['id']}/part-urls", json={"part_numbers": numbers})
        async with aiohttp.ClientSession() as store:

            async def send(number: int) -> None:
                part = io.BytesIO(content[(number - 1) * PART : number * PART])
                async with store.put(urls["data"][number - 1]["url"], data=part) as answer:
                    assert answer.ok, await answer.text()

            await in_parallel(send, upload["part_count"])
        await self.call("POST", f"/v1/uploads/{upload['id']}/complete")

    async def send_tus(self, content: bytes) -> None:
        """Send a file in one tus request."""
        tus = {"Tus-Resumable": "1.0.0"}
        async with self.session.post("/tus", headers={**tus, "Upload-Length": str(len(content))}) as answer:
            assert answer.status == 201, await answer.text()
            path = answer.headers["Location"]
        body = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        async with self.session.patch(path, data=io.BytesIO(content), headers=body) as answer:
            assert answer.status == 204, await answer.text()
            assert answer.headers["Ragsvc-Document-Id"]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep `peak_bytes` up to date while the body of the `with` block runs."""

        async def watch() -> None:
            process = psutil.Process(self.pid)
            while True:
                self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()


async def in_parallel(send: Callable[[int], Awaitable[None]], count: int) -> None:
    turns = asyncio.Semaphore(PARALLEL)

    async def one(number: int) -> None:
        async with turns:
            await send(number)

    await asyncio.gather(*(one(number) for number in range(1, count + 1)))


async def measure(send: Awaitable[None]) -> float:
    """Return MiB per second."""
    started = time.perf_counter()
    await send
    return SIZE / MIB / (time.perf_counter() - started)


@pytest.fixture
async def service(settings: Settings, workspace: Workspace, tmp_path: Path) -> AsyncIterator[Service]:
    folders = open_folders(tmp_path)
    (port,) = free_ports(1)
    env = {**os.environ, **variables_of(settings)} | {"PORT": str(port)}
    process = await start(Api(name="api", port=port, shares_port=False, env=env, logs=folders.logs), folders.run)
    try:
        admin = {"Authorization": f"Bearer {env['ADMIN_API_KEY']}"}
        url = f"http://{LOOPBACK}:{port}"
        async with (
            aiohttp.ClientSession(url, headers=admin, raise_for_status=True) as session,
            session.post(f"/v1/workspaces/ws_{workspace.id.hex}/keys", json={"name": "bench"}) as answer,
        ):
            key = (await answer.json())["key"]
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as session:
            yield Service(session, process.pid)
    finally:
        await process.stop()


async def send_straight(settings: Settings, workspace: Workspace, content: bytes) -> None:
    """Send the same bytes to the store with its own SDK."""
    secret = settings.stores.s3_secret_access_key
    assert secret is not None
    async with aioboto3.Session().client(
        "s3",
        endpoint_url=settings.stores.s3_endpoint_url,
        region_name=settings.stores.s3_region,
        aws_access_key_id=settings.stores.s3_access_key_id,
        aws_secret_access_key=secret.get_secret_value(),
    ) as client:
        await client.upload_fileobj(io.BytesIO(content), workspace.bucket, f"straight-{uuid.uuid4().hex}")


@pytest.mark.bench
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")  # the SDK does the same
async def test_uploads_are_nearly_as_fast_as_the_store(
    settings: Settings, workspace: Workspace, service: Service, bench_table: BenchTable
) -> None:
    content = os.urandom(SIZE)
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "straight": lambda: send_straight(settings, workspace, content),
        "presigned": lambda: service.send_presigned(content),
        "through the API": lambda: service.send_through(content),
        "tus": lambda: service.send_tus(content),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(3):
        for way, send in ways.items():
            rates[way].append(await measure(send()))
    best = {way: max(found) for way, found in rates.items()}
    straight = ("straight to the store", best["straight"])
    for way, least in (("presigned", 0.9), ("through the API", 0.7), ("tus", 0.7)):
        bench_table.add(f"256 MiB, {way}", best[way], "MiB/s", peer=straight, goal=ratio_at_least(least))
    bench_table.check()


@pytest.mark.bench
async def test_a_large_upload_does_not_grow_the_api_process(service: Service, bench_table: BenchTable) -> None:
    await service.send_through(random.Random(1).randbytes(PART))  # noqa: S311
    before = psutil.Process(service.pid).memory_info().rss
    content = os.urandom(BIG)
    async with service.watched():
        await service.send_through(content)
    growth_mib = (service.peak_bytes - before) / MIB
    bench_table.add("memory for 1 GiB through the API", growth_mib, "MiB", goal=at_most(MEMORY_GROWTH_MIB))
    bench_table.check()


@pytest.mark.bench
async def test_many_uploads_at_once_complete(service: Service) -> None:
    content = os.urandom(PART + 1)
    await asyncio.gather(*(service.send_through(content) for _ in range(MANY)))
    listed = await service.call("GET", "/v1/uploads?status=completed&limit=100")
    assert len(listed["data"]) == MANY
