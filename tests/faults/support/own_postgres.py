"""A Postgres for one test, which can be killed and restarted."""

from __future__ import annotations

import shutil
import signal
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ragsvc.devstack.parts.postgres import Postgres
from ragsvc.devstack.ports import free_ports
from ragsvc.devstack.stack import open_folders, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.devstack.process import Process
    from ragsvc.devstack.stack import Folders


class OwnPostgres:
    """A server with its own data folder, whose committed data survives a kill."""

    def __init__(self, folders: Folders) -> None:
        self._run = folders.run
        self._part = Postgres(
            folders.root,
            port=free_ports(1)[0],
            password="faults",
            logs=folders.logs,
            run_dir=folders.run,
            options={"max_connections": "100", "shared_buffers": "32MB"},
        )
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The DSN of the database."""
        return self._part.url

    async def start(self) -> None:
        """Start the server, which recovers after a crash."""
        self._process = await start(self._part, self._run)

    async def end(self, number: signal.Signals) -> None:
        """Send the server a signal and wait for its end."""
        assert self._process is not None
        if self._process.is_running():
            psutil.Process(self._process.pid).send_signal(number)
        await self._process.wait()

    def remove(self) -> None:
        """Remove the data folder."""
        shutil.rmtree(self._part.home, ignore_errors=True)


@asynccontextmanager
async def open_postgres() -> AsyncIterator[OwnPostgres]:
    """Yield a running server with an empty database."""
    root = Path(tempfile.mkdtemp(prefix="ragsvc-test-"))
    postgres = OwnPostgres(open_folders(root))
    try:
        await postgres.start()
        yield postgres
        await postgres.end(signal.SIGINT)
    finally:
        postgres.remove()
        shutil.rmtree(root)
