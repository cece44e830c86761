"""Starts the parts of the stack and waits until each is ready."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ragsvc.devstack.parts.model_server import ModelServer
from ragsvc.devstack.parts.postgres import Postgres
from ragsvc.devstack.parts.redis import Redis
from ragsvc.devstack.parts.s3 import ObjectStore
from ragsvc.devstack.ports import free_ports
from ragsvc.devstack.process import last_words, spawn
from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ragsvc.devstack.process import Command, Process
    from ragsvc.devstack.secrets import Secrets

READY_TIMEOUT_S = 60.0
POLL_S = 0.05


class Part(Protocol):
    """A server that can be started repeatedly on the same data."""

    @property
    def name(self) -> str:
        """Its name in pid files, logs and the ready file."""

    async def prepare(self) -> Command:
        """Do what is needed before the start, and return the command."""

    async def is_ready(self, process: Process) -> bool:
        """Return whether the process is ready."""


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a data directory."""

    root: Path
    run: Path
    logs: Path
    cache: Path


@dataclass(frozen=True, slots=True)
class Parts:
    """The servers of one data directory, not started yet."""

    postgres: Postgres
    redis: Redis
    s3: ObjectStore
    models: ModelServer


def open_folders(root: Path, *, cache: Path | None = None) -> Folders:
    """Create the data directory. Others can traverse it (Postgres's user must) but not list it."""
    folders = Folders(root, root / "run", root / "logs", cache or root / "cache")
    try:
        for folder in (root, folders.run, folders.logs, folders.cache):
            folder.mkdir(parents=True, exist_ok=True)
        root.chmod(0o711)
    except OSError as error:
        raise StartupRefused(f"the data directory cannot be used: {error}") from error
    return folders


def make_parts(folders: Folders, secrets: Secrets, *, postgres_options: Mapping[str, str] | None = None) -> Parts:
    """Return the parts, each with its folder, free ports and password."""
    root, logs, run = folders.root, folders.logs, folders.run
    ports = free_ports(5)
    postgres = Postgres(
        root, port=ports[0], password=secrets.postgres_password, logs=logs, run_dir=run, options=postgres_options
    )
    redis = Redis(root / "redis", port=ports[1], password=secrets.redis_password, logs=logs)
    s3 = ObjectStore(root / "s3", port=ports[2], metrics_port=ports[3], secrets=secrets, logs=logs, run_dir=run)
    models = ModelServer(folders.cache, port=ports[4], api_key=secrets.models_api_key, logs=logs, run_dir=run)
    return Parts(postgres, redis, s3, models)


async def start(part: Part, run_dir: Path, *, timeout_s: float = READY_TIMEOUT_S) -> Process:
    """Start a part and return its process once it is ready.

    Raises:
        StartupRefused: it exited or was not ready in time; the message has its last output.
    """
    process = spawn(await part.prepare(), run_dir)
    try:
        await wait_ready(part, process, timeout_s=timeout_s)
    except BaseException:
        await process.stop()
        raise
    return process


async def wait_ready(part: Part, process: Process, *, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until a started part is ready.

    Raises:
        StartupRefused: it exited or was not ready in time; the message has its last output.
    """
    deadline = time.monotonic() + timeout_s
    while not await part.is_ready(process):
        if not process.is_running():
            code = await process.wait()
            raise StartupRefused(f"{part.name} ended with exit code {code}: {last_words(process)}")
        if time.monotonic() > deadline:
            raise StartupRefused(f"{part.name} was not ready after {timeout_s:g} s: {last_words(process)}")
        await asyncio.sleep(POLL_S)
