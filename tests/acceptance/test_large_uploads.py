"""A large file is uploaded unchanged while the client, the API and the store are killed repeatedly."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.servers.stacks import new_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.servers.stacks import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("servers")]

MIB = 1024 * 1024
SIZE_MIB = int(os.environ.get("UPLOAD_MIB", "2048"))
KILLS = 10
SEED = int(os.environ.get("UPLOAD_SEED", "7"))
VICTIMS = ("client", "api", "s3")


@pytest.fixture
async def stack(pytestconfig: pytest.Config) -> AsyncIterator[Stack]:
    async with new_stack(pytestconfig.cache.mkdir("ragsvc-models")) as started:
        await started.start()
        yield started


def ready_of(stack: Stack) -> dict[str, Any]:
    ready = stack.read()
    assert ready is not None
    return ready


def write_file(path: Path) -> str:
    """Write random bytes and return their sha256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE_MIB):
            block = os.urandom(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


async def start_client(stack: Stack, path: Path) -> asyncio.subprocess.Process:
    ready = ready_of(stack)
    env = {"RAGSVC_URL": ready["base_url"], "RAGSVC_API_KEY": ready["api_key"], "XDG_STATE_HOME": str(path.parent)}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ragsvc", "upload", "--json", "--no-wait", str(path)),
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def kill(stack: Stack, client: asyncio.subprocess.Process, victim: str) -> bool:
    """Kill the victim; return False if it is not running."""
    pids = {
        "client": client.pid,
        "api": (ready_of(stack)["pids"]["api"] or [None])[0],
        "s3": ready_of(stack)["pids"]["s3"],
    }
    if pids[victim] is None:
        return False
    try:
        os.kill(pids[victim], signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def read_sha256(stack: Stack, document_id: str) -> str:
    ready, digest = ready_of(stack), hashlib.sha256()
    headers = {"Authorization": f"Bearer {ready['api_key']}"}
    async with (
        aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as session,
        session.get(f"{ready['base_url']}/v1/documents/{document_id}/content") as response,
    ):
        assert response.status == 200, await response.text()
        async for block in response.content.iter_chunked(MIB):
            digest.update(block)
    return digest.hexdigest()


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment variables of a running process."""
    variables = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(one.split("=", 1) for one in variables)


async def audit(stack: Stack) -> list[dict[str, Any]]:
    """Return the findings of `ragsvc storage audit`, including recent orphans."""
    (api, *_) = ready_of(stack)["pids"]["api"]
    command = (sys.executable, "-m", "ragsvc", "storage", "audit", "--older-than-s", "0", "--json")
    process = await asyncio.create_subprocess_exec(*command, env=environment_of(api), stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: list[dict[str, Any]] = json.loads(out)["data"]
    return found


async def test_a_large_upload_survives_ten_kills_of_client_api_and_store(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)  # noqa: S311
    path = tmp_path / "big.bin"
    expected = await asyncio.to_thread(write_file, path)
    plan, killed = rng.sample(VICTIMS * 4, KILLS), list[str]()
    client = await start_client(stack, path)
    while True:
        try:
            # The time of each kill is random on purpose, so there is no event to wait for.
            async with asyncio.timeout(rng.uniform(0.3, 1.5) if len(killed) < KILLS else 600):
                out, errors = await client.communicate()
        except TimeoutError:
            if kill(stack, client, plan[0]):
                killed.append(plan.pop(0))
            continue
        if client.returncode == 0:
            break
        assert client.returncode in {-signal.SIGKILL, 1, 3}, errors
        client = await start_client(stack, path)
    (uploaded,) = json.loads(out)["data"]
    assert uploaded["document"]["size_bytes"] == SIZE_MIB * MIB
    assert await read_sha256(stack, uploaded["document"]["id"]) == expected
    assert await audit(stack) == []
    with capsys.disabled():
        counts = {victim: killed.count(victim) for victim in VICTIMS}
        print(f"\n{SIZE_MIB} MiB, killed {counts}, sha256 {expected[:12]}… equal, audit clean", end="")  # noqa: T201
    assert len(killed) == KILLS
