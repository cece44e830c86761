"""The stack of `ragsvc demo`: `ragsvc dev` as a child process with its own data directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ragsvc.cli.client.target import Target, read_ready_file
from ragsvc.cli.exits import CommandFailed
from ragsvc.cli.output import print_line
from ragsvc.devstack.process import Command, spawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.devstack.process import Process

LOG = "dev.log"
POLL_S = 0.05
START_TIMEOUT_S = 120.0
# Slightly more than the supervisor's grace period for its slowest child.
GRACE_S = 40.0
# The demo writes and deletes, so it never uses stores configured in the caller's shell.
NOT_OURS = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "QUEUE_PREFIX", "S3_ENDPOINT_URL", "ADMIN_API_KEY")
# How to show the commands that run once, before the servers first start; each key is the name of a pid file.
PREPARATIONS = {
    "initdb": "postgres: initdb",
    "createdb": "postgres: createdb",
    "format": "s3: format",
    "graph": "models: build the embedding graph",
    "migrate": "postgres: migrate",
}


@asynccontextmanager
async def open_stack() -> AsyncIterator[Target]:
    """Start the stack in a fresh directory, yield its address, stop it and remove the directory.

    After a failure the logs are kept.

    Raises:
        CommandFailed: the stack did not become ready, or the demo failed; the message names the logs.
    """
    data_dir = Path(tempfile.mkdtemp(prefix="ragsvc-demo-"))
    keep_logs = False
    try:
        async with _running(data_dir) as target:
            yield target
    except CommandFailed as failed:
        keep_logs = True
        _remove_all_but_logs(data_dir)
        raise type(failed)(f"{failed} (the logs are kept in {data_dir})") from failed
    finally:
        if not keep_logs:
            shutil.rmtree(data_dir, ignore_errors=True)


@asynccontextmanager
async def _running(data_dir: Path) -> AsyncIterator[Target]:
    process = spawn(_command(data_dir), data_dir)
    try:
        yield await _wait_ready(process, data_dir)
    finally:
        await process.stop()
    if process.exit_code != 0:
        raise CommandFailed(f"the stack did not stop cleanly: {_last_line(process)}")


def _remove_all_but_logs(data_dir: Path) -> None:
    for entry in data_dir.iterdir():
        if entry.name in {"logs", LOG}:
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()


def _command(data_dir: Path) -> Command:
    argv = (sys.executable, "-m", "ragsvc", "dev", "--data-dir", str(data_dir), "--port", "0")
    env = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    return Command(name="dev", argv=argv, env=env, log=data_dir / LOG, grace_s=GRACE_S)


async def _wait_ready(process: Process, data_dir: Path) -> Target:
    started = time.monotonic()
    known: set[str] = set()
    while True:
        for name in sorted({path.stem for path in (data_dir / "run").glob("*.pid")} - known):
            known.add(name)
            print_line(f"  {time.monotonic() - started:5.1f} s  {PREPARATIONS.get(name, name)}")
        ready = read_ready_file(data_dir / "ready.json")
        if ready:
            return Target(ready["base_url"], ready["api_key"], ready["admin_key"])
        if not process.is_running():
            raise CommandFailed(f"the stack did not start: {_last_line(process)}")
        if time.monotonic() - started > START_TIMEOUT_S:
            raise CommandFailed(f"the stack was not ready after {START_TIMEOUT_S:.0f} s: {_last_line(process)}")
        await asyncio.sleep(POLL_S)


def _last_line(process: Process) -> str:
    said = process.output().strip().splitlines()
    return said[-1].removeprefix("error: ") if said else "no output"
