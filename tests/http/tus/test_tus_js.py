"""Uploads with the unmodified tus-js-client from npm over a connection that breaks repeatedly."""

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
    """A folder with tus-js-client installed, which later runs reuse."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("tus-js-client needs node and npm")
    folder = Path(tempfile.gettempdir()) / f"ragsvc-npm-{os.geteuid()}-{TUS_JS}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder / "install.lock"):
        if not (folder / "node_modules" / "tus-js-client").exists():
            install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), TUS_JS]
            if subprocess.run(install, check=False).returncode:  # noqa: S603 - a fixed command
                pytest.skip("npm cannot install tus-js-client here")
    return folder


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    """A file of about 20 MiB whose size is not a multiple of a part or block size."""
    path = tmp_path / "film.txt"
    path.write_bytes(random.Random(20).randbytes(20 * MIB + 12_345))  # noqa: S311
    return path


def sha256_of(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


async def start(
    tenant: Tenant, proxy: TearingProxy, modules: Path, source_file: Path, *, chunk_size: str
) -> asyncio.subprocess.Process:
    """Start tus-js-client, which stores its resume state next to the file."""
    endpoint = f"http://{proxy.host}:{proxy.port}/tus"
    storage = str(source_file.with_name("uploads.json"))
    return await asyncio.create_subprocess_exec(
        *("node", str(SCRIPT), endpoint, str(tenant.api.key), str(source_file), chunk_size, storage),
        env={"PATH": os.environ["PATH"], "TUS_MODULES": str(modules)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> dict[str, Any]:
    async with asyncio.timeout(TIMEOUT_S):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    result: dict[str, Any] = orjson.loads(output)
    return result


async def assert_is_document(tenant: Tenant, result: dict[str, Any], source_file: Path) -> None:
    document = (await tenant.api.get(f"/v1/documents/{result['documentId']}")).json
    assert (document["filename"], document["attributes"]) == ("film.txt", {"by": "tus-js-client"})
    stored = await tenant.api.get(f"/v1/documents/{result['documentId']}/content")
    assert hashlib.sha256(stored.raw).digest() == sha256_of(source_file)
    assert len((await tenant.api.get("/v1/documents")).json["data"]) == 1


@pytest.mark.parametrize("chunk_size", ["Infinity", str(3 * MIB)])
async def test_an_upload_succeeds_over_a_connection_that_breaks_at_random(
    tenant: Tenant, modules: Path, source_file: Path, chunk_size: str
) -> None:
    rng = random.Random(chunk_size)  # noqa: S311
    server = tenant.api.client
    async with TearingProxy(server.host, server.port or 0, lambda: rng.randrange(1000, 4 * MIB)) as proxy:
        result = await finish(await start(tenant, proxy, modules, source_file, chunk_size=chunk_size))
        assert proxy.torn >= 4
        assert result["retries"] >= 4
    await assert_is_document(tenant, result, source_file)


async def test_a_killed_client_resumes_its_upload(tenant: Tenant, modules: Path, source_file: Path) -> None:
    server = tenant.api.client
    limit = 9 * MIB
    async with TearingProxy(server.host, server.port or 0, lambda: limit) as proxy:
        first = await start(tenant, proxy, modules, source_file, chunk_size="Infinity")
        await until(lambda: proxy.connections, timeout_s=30)
        # All further connections break before a request gets through.
        limit = 1
        await until(lambda: proxy.torn > 1, timeout_s=30)
        first.kill()
        await first.communicate()
        (upload,) = (await tenant.api.get("/v1/uploads?status=pending")).json["data"]

        async def is_part_stored() -> bool:
            """Return whether the first part is stored, which can happen after the connection has broken."""
            state = (await tenant.api.get(f"/v1/uploads/{upload['id']}")).json
            return bool(state["received_bytes"] == state["part_size_bytes"])

        await until(is_part_stored, timeout_s=30, what="the part received before the disconnect")
        limit = 100 * MIB
        result = await finish(await start(tenant, proxy, modules, source_file, chunk_size="Infinity"))
    assert result["resumed"]
    assert result["url"].endswith(upload["id"])
    await assert_is_document(tenant, result, source_file)
