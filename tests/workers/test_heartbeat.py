"""A worker whose loop is stuck fails its check; one that is busy, idle or without Redis does not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

from ragsvc.cli.app import run
from tests.support.documents import accept, job_of, reload_job
from tests.support.polling import until
from tests.support.servers.model_server import Pause
from tests.support.servers.worker_processes import working

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from tests.support.servers.model_server import ScriptedModels

ALIVE_S = "20"
# Longer than a live loop is ever silent, even on a machine that has much else to do.
STUCK_S = "3"


def check(path: Path, max_age_s: str) -> int:
    return run(["worker-alive", "--file", str(path), "--max-age", max_age_s])


async def test_a_busy_worker_is_alive_a_stuck_one_is_not_and_a_stopped_one_leaves_no_file(
    resources: Resources, workspace: Workspace, scripted_models: ScriptedModels, tmp_path: Path
) -> None:
    path = tmp_path / "alive"
    pause = Pause()
    scripted_models.embeddings.usual = pause
    settings = scripted_models.applied_to(resources.settings)
    one_job = settings.changed({"worker_alive_file": path, "ingestion_concurrency": 1})
    async with working(one_job) as worker:
        document = await accept(resources, workspace)
        job = await job_of(resources, document)
        async with asyncio.timeout(60):
            await pause.reached.wait()
        # Its only place is taken by a job that waits for the model.
        before = path.stat().st_mtime
        await until(lambda: path.stat().st_mtime > before, timeout_s=20, what="another look at the queue")
        assert check(path, ALIVE_S) == 0
        worker.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: check(path, STUCK_S) == 1, timeout_s=30, what="the failing check")
        finally:
            worker.send_signal(signal.SIGCONT)
        await until(lambda: check(path, STUCK_S) == 0, timeout_s=30, what="the check of a worker that goes on")
        worker.terminate()
        assert await worker.wait() == 0
        assert not path.exists()
        assert (await reload_job(resources, job)).attempts == 0, "it was not handed back"
    pause.resumed.set()


def test_an_old_file_a_missing_one_and_none_at_all_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORKER_ALIVE_FILE", raising=False)
    assert run(["worker-alive"]) == 2
    assert "WORKER_ALIVE_FILE is not set" in capsys.readouterr().err
    path = tmp_path / "alive"
    monkeypatch.setenv("WORKER_ALIVE_FILE", str(path))
    assert run(["worker-alive"]) == 1
    assert "is not there" in capsys.readouterr().err
    path.touch()
    assert run(["worker-alive"]) == 0
    os.utime(path, (0, time.time() - 300))
    assert run(["worker-alive"]) == 1
    assert "has not looked at its queue for 300 s, more than 120" in capsys.readouterr().err


async def test_a_file_that_cannot_be_written_refuses_the_start(resources: Resources, tmp_path: Path) -> None:
    nowhere = resources.settings.changed({"worker_alive_file": tmp_path / "missing" / "alive"})
    async with working(nowhere) as worker:
        assert await asyncio.wait_for(worker.wait(), 60) == 1
