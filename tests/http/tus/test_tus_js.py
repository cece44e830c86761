"""tus-js-client from npm, unmodified and under node, over a line that is torn off again and again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.http.support.proxy import TearingProxy
from tests.support.locks import locked
from tests.support.polling import until

if TYPE_CHECKING:
    from tests.http.conftest import Tenant

TUS_JS = "tus-js-client@4"
MIB = 1024 * 1024
SCRIPT = Path(__file__).with_name("tus_client.mjs")
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def modules() -> Path:
    """A folder with tus-js-client in it, which is kept from run to run."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("tus-js-client needs node and npm")
    folder = Path(tempfile.gettempdir()) / f"ragsvc-npm-{os.geteuid()}-{TUS_JS}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder / "install.lock"):
        if not (folder / "node_modules" / "tus-js-client").exists():
            install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), TUS_JS]
            if subprocess.run(install, check=False).returncode:  # noqa: S603 - our own command
                pytest.skip("npm cannot install tus-js-client here")
    return folder


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A file of some 20 MiB, no multiple of anything."""
    path = tmp_path / "film.txt"
    path.write_bytes(random.Random(20).randbytes(20 * MIB + 12_345))  # noqa: S311
    return path


def sha256_of(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


async def start(
    tenant: Tenant, proxy: TearingProxy, modules: Path, film: Path, *, chunk_size: str
) -> asyncio.subprocess.Process:
    """Run tus-js-client; it remembers its uploads beside the file."""
    endpoint = f"http://{proxy.host}:{proxy.port}/tus"
    storage = str(film.with_name("uploads.json"))
    return await asyncio.create_subprocess_exec(
        *("node", str(SCRIPT), endpoint, str(tenant.api.key), str(film), chunk_size, storage),
        env={"PATH": os.environ["PATH"], "TUS_MODULES": str(modules)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> dict[str, Any]:
    async with asyncio.timeout(TIMEOUT_S):
        output, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    told: dict[str, Any] = orjson.loads(output)
    return told


async def assert_is_document(tenant: Tenant, told: dict[str, Any], film: Path) -> None:
    document = (await tenant.api.get(f"/v1/documents/{told['documentId']}")).json
    assert (document["filename"], document["attributes"]) == ("film.txt", {"by": "tus-js-client"})
    stored = await tenant.api.get(f"/v1/documents/{told['documentId']}/content")
    assert hashlib.sha256(stored.raw).digest() == sha256_of(film)
    assert len((await tenant.api.get("/v1/documents")).json["data"]) == 1


@pytest.mark.parametrize("chunk_size", ["Infinity", str(3 * MIB)])
async def test_a_file_arrives_whole_over_a_line_that_is_torn_off_at_random(
    tenant: Tenant, modules: Path, film: Path, chunk_size: str
) -> None:
    chance = random.Random(chunk_size)  # noqa: S311
    server = tenant.api.client
    async with TearingProxy(server.host, server.port or 0, lambda: chance.randrange(1000, 4 * MIB)) as proxy:
        told = await finish(await start(tenant, proxy, modules, film, chunk_size=chunk_size))
        assert proxy.torn >= 4
        assert told["retries"] >= 4
    await assert_is_document(tenant, told, film)


async def test_a_client_that_was_killed_goes_on_where_it_stopped(tenant: Tenant, modules: Path, film: Path) -> None:
    server = tenant.api.client
    limit = 9 * MIB
    async with TearingProxy(server.host, server.port or 0, lambda: limit) as proxy:
        first = await start(tenant, proxy, modules, film, chunk_size="Infinity")
        await until(lambda: proxy.connections, timeout_s=30)
        # From the second line on not even a request gets through.
        limit = 1
        await until(lambda: proxy.torn > 1, timeout_s=30)
        first.kill()
        await first.communicate()
        (upload,) = (await tenant.api.get("/v1/uploads?status=pending")).json["data"]

        async def is_kept() -> bool:
            """A part is stored while the next one comes: it may be on its way when the line breaks."""
            state = (await tenant.api.get(f"/v1/uploads/{upload['id']}")).json
            return bool(state["received_bytes"] == state["part_size_bytes"])

        await until(is_kept, timeout_s=30, what="the part that came before the cut")
        limit = 100 * MIB
        told = await finish(await start(tenant, proxy, modules, film, chunk_size="Infinity"))
    assert told["resumed"]
    assert told["url"].endswith(upload["id"])
    await assert_is_document(tenant, told, film)
