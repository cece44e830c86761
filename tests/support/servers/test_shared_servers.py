"""The shared test servers are started once for all processes and stop after the last one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.polling import until
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers.servers import Servers

# Joins, prints the addresses of the servers, and runs until its standard input ends.
JOINER = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from tests.support.servers.servers import join
for servers in join(Path(sys.argv[1])):
    print(json.dumps(asdict(servers)), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary_folder() -> Iterator[Path]:
    """A folder for temporary files that no other test run uses."""
    folder = Path(tempfile.mkdtemp(prefix="ragsvc-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


async def join(folder: Path, cache: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", JOINER, str(cache)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
    )


async def read(joiner: asyncio.subprocess.Process) -> dict[str, str]:
    assert joiner.stdout is not None
    addresses: dict[str, str] = json.loads(await joiner.stdout.readline())
    return addresses


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the processes that have the folder in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in word for word in words):
            found.append(process)
    return found


def list_stacks(folder: Path) -> list[Path]:
    return list(folder.glob("*/stack"))


async def test_servers_are_shared_and_stop_after_the_last_process_even_if_it_is_killed(
    servers: Servers, pytestconfig: pytest.Config, temporary_folder: Path
) -> None:
    cache = pytestconfig.cache.mkdir("ragsvc-models")
    one, other = await asyncio.gather(*(join(temporary_folder, cache) for _ in range(2)))
    addresses = await read(one)
    assert await read(other) == addresses
    assert addresses["postgres_url"] != servers.postgres_url
    assert processes_of(temporary_folder)
    await one.communicate(b"")  # a regular exit, after which the servers keep running
    assert one.returncode == 0
    third = await join(temporary_folder, cache)
    assert await read(third) == addresses
    for joiner in (other, third):
        joiner.kill()
        await joiner.communicate()
    await until(lambda: not processes_of(temporary_folder), timeout_s=30, what="the servers' end")
    assert not list_stacks(temporary_folder)
