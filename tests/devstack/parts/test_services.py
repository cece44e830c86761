"""The service's processes are started the way an operator would start them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragsvc.devstack.parts import services
from ragsvc.devstack.parts.services import Api, Worker
from ragsvc.devstack.process import Command
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.devstack.stack import Folders
    from tests.devstack.conftest import Spawning


def make_worker(folders: Folders, **env: str) -> Worker:
    return Worker(name="ingestion-1", settings_class="IngestionSettings", env=env, logs=folders.logs)


@pytest.mark.parametrize(("shares_port", "flags"), [(False, ()), (True, ("--reuse-port",))])
async def test_api_processes_share_a_port_only_when_there_are_several(
    folders: Folders, *, shares_port: bool, flags: tuple[str, ...]
) -> None:
    api = Api(name="api-1", port=1, shares_port=shares_port, env={}, logs=folders.logs)
    assert (await api.prepare()).argv == (sys.executable, "-m", "ragsvc", "serve", *flags)


async def test_a_worker_is_the_plain_arq_command(folders: Folders) -> None:
    arq = str(Path(sys.executable).parent / "arq")
    assert (await make_worker(folders).prepare()).argv == (arq, "ragsvc.workers.IngestionSettings")


async def test_a_worker_is_ready_once_it_logs_its_start(folders: Folders, spawning: Spawning) -> None:
    script = "echo starting; read go; echo worker_started; exec sleep 600"
    fifo = folders.root / "fifo"
    os.mkfifo(fifo)
    process = spawning(
        Command(name="worker", argv=("sh", "-c", f"exec <{fifo}; {script}"), env=os.environ, log=folders.logs / "w.log")
    )
    worker = make_worker(folders)
    with fifo.open("w") as go:
        await until(lambda: "starting" in process.output())
        assert not await worker.is_ready(process)
        go.write("go\n")
    assert await until(lambda: worker.is_ready(process))


async def test_a_worker_with_a_quiet_log_level_is_ready_after_a_while(
    folders: Folders, spawning: Spawning, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = spawning(Command(name="worker", argv=("sleep", "600"), env=os.environ, log=folders.logs / "w.log"))
    worker = make_worker(folders, LOG_LEVEL="error")
    monkeypatch.setattr(services, "SILENT_START_S", float("inf"))
    assert not await worker.is_ready(process)
    monkeypatch.setattr(services, "SILENT_START_S", 0.0)
    assert await worker.is_ready(process)
