"""The heartbeat check fails for a worker whose event loop is stuck, but not for a busy one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

from ragsvc.cli.app import run
from tests.support.documents.documents import accept, job_of, reload_job
from tests.support.polling import until
from tests.support.servers.model_server import Pause
from tests.support.servers.worker_processes import working

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from tests.support.servers.model_server import ScriptedModels

LONG_MAX_AGE_S = "20"
# Longer than a healthy event loop pauses, even on a busy machine.
SHORT_MAX_AGE_S = "3"


def check(path: Path, max_age_s: str) -> int:
    return run(["worker-alive", "--file", str(path), "--max-age", max_age_s])


async def test_the_check_passes_for_a_busy_worker_fails_for_a_stuck_one_and_the_file_is_removed_at_shutdown(
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
        # Its only slot is used by a job that waits for the model.
        before = path.stat().st_mtime
        await until(lambda: path.stat().st_mtime > before, timeout_s=20, what="another heartbeat")
        assert check(path, LONG_MAX_AGE_S) == 0
        worker.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: check(path, SHORT_MAX_AGE_S) == 1, timeout_s=30, what="the failing check")
        finally:
            worker.send_signal(signal.SIGCONT)
        await until(lambda: check(path, SHORT_MAX_AGE_S) == 0, timeout_s=30, what="the check of a resumed worker")
        worker.terminate()
        assert await worker.wait() == 0
        assert not path.exists()
        assert (await reload_job(resources, job)).attempts == 0, "the job was not handed back"
    pause.resumed.set()


def test_an_old_a_missing_and_an_unset_file_have_different_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORKER_ALIVE_FILE", raising=False)
    assert run(["worker-alive"]) == 2
    assert "WORKER_ALIVE_FILE is not set" in capsys.readouterr().err
    path = tmp_path / "alive"
    monkeypatch.setenv("WORKER_ALIVE_FILE", str(path))
    assert run(["worker-alive"]) == 1
    assert "does not exist" in capsys.readouterr().err
    path.touch()
    assert run(["worker-alive"]) == 0
    os.utime(path, (0, time.time() - 300))
    assert run(["worker-alive"]) == 1
    assert "has not polled its queue for 300 s, more than 120" in capsys.readouterr().err


async def test_a_worker_does_not_start_if_the_file_cannot_be_written(resources: Resources, tmp_path: Path) -> None:
    nowhere = resources.settings.changed({"worker_alive_file": tmp_path / "missing" / "alive"})
    async with working(nowhere) as worker:
        assert await asyncio.wait_for(worker.wait(), 60) == 1
