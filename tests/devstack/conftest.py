"""Fixtures for tests that start their own servers."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragsvc.devstack.process import spawn
from ragsvc.devstack.stack import open_folders, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from ragsvc.devstack.process import Command, Process
    from ragsvc.devstack.stack import Folders, Part

    Starting = Callable[[Part], AbstractAsyncContextManager[Process]]
    Spawning = Callable[[Command], Process]


@pytest.fixture
def folders() -> Iterator[Folders]:
    """A data directory that every user can traverse, unlike tmp_path's parents."""
    root = Path(tempfile.mkdtemp(prefix="ragsvc-test-"))
    yield open_folders(root)
    shutil.rmtree(root)


@pytest.fixture
def starting(folders: Folders) -> Starting:
    """Start a part, and always stop it at the end."""

    @asynccontextmanager
    async def start_and_stop(part: Part) -> AsyncIterator[Process]:
        process = await start(part, folders.run)
        try:
            yield process
        finally:
            await process.stop()

    return start_and_stop


@pytest.fixture
async def spawning(folders: Folders) -> AsyncIterator[Spawning]:
    """Spawn commands, and kill them at the end."""
    spawned: list[Process] = []

    def spawn_one(command: Command) -> Process:
        spawned.append(spawn(command, folders.run))
        return spawned[-1]

    yield spawn_one
    for process in spawned:
        process.kill()
        await process.wait()
