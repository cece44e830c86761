"""An object store for a single test, which can be killed and can run out of space."""

from __future__ import annotations

import os
import signal
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ragsvc.devstack.parts.s3 import META, ObjectStore, find_binary
from ragsvc.devstack.ports import free_ports
from ragsvc.devstack.process import run
from ragsvc.devstack.secrets import Secrets
from ragsvc.devstack.stack import open_folders, start
from ragsvc.errors.work import TransientFailure
from ragsvc.settings.settings import Settings
from ragsvc.storage.store import open_storage
from tests.support.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from ragsvc.devstack.process import Process

NOT_ASKED = {"database_url": "postgresql://nobody", "redis_url": "redis://nobody"}


class OwnStore:
    """One object store with its data under `root`."""

    def __init__(self, root: Path) -> None:
        self._folders = open_folders(root)
        self._secrets = Secrets()
        port, metrics_port = free_ports(2)
        self._part = ObjectStore(
            root / "s3",
            port=port,
            metrics_port=metrics_port,
            secrets=self._secrets,
            logs=self._folders.logs,
            run_dir=self._folders.run,
        )
        self._process: Process | None = None

    @property
    def settings(self) -> dict[str, object]:
        """The settings to connect to the store."""
        return {
            "s3_endpoint_url": self._part.url,
            "s3_access_key_id": self._secrets.s3_access_key_id,
            "s3_secret_access_key": SecretStr(self._secrets.s3_secret_access_key),
        }

    async def start(self) -> None:
        """Start the store with its existing data."""
        self._process = await start(self._part, self._folders.run)

    async def kill(self) -> None:
        """Kill the store with SIGKILL."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> None:
        """Stop the store if it is running."""
        if self._process is not None:
            await self._process.stop()

    async def fill(self) -> None:
        """Leave no space for another file; the store then reports that the device is full."""
        await self._limit_files(1)
        await until(lambda: self._accepts(accepted=False), timeout_s=60, what="a full disk")

    async def empty(self) -> None:
        """Remove the limit that `fill` set."""
        await self._limit_files(0)
        await until(lambda: self._accepts(accepted=True), timeout_s=60, what="space on the disk")

    async def _limit_files(self, count: int) -> None:
        await self.kill()
        gateway = await self._part.prepare()
        argv = (str(find_binary()), "config", META, "--inodes", str(count), "--yes")
        await run(replace(gateway, name="limit", argv=argv), self._folders.run)
        await self.start()

    async def _accepts(self, *, accepted: bool) -> bool:
        """Return whether creating a file has the outcome `accepted`; the store applies a new limit with a delay."""
        async with open_storage(Settings.of({**NOT_ASKED, **self.settings})) as storage:
            try:
                await storage.create_bucket(f"probe-{uuid.uuid4().hex}")
            except TransientFailure:
                return not accepted
        return accepted
