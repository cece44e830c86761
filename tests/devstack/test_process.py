"""Children do not outlive their parent, can be found again by their pid files, and can be stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ragsvc.devstack import process as processes
from ragsvc.devstack.process import Command, last_words, run, started_at, stop_leftovers
from ragsvc.errors.base import StartupRefused
from tests.support.polling import until
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from ragsvc.devstack.stack import Folders
    from tests.devstack.conftest import Spawning

DRIVER = """
import os, sys, time
from pathlib import Path
from ragsvc.devstack.process import Command, spawn
folder = Path(sys.argv[1])
spawn(Command(name="child", argv=("sleep", "600"), env=os.environ, log=folder / "child.log"), folder)
print("spawned", flush=True)
time.sleep(600)
"""


def command(folders: Folders, *argv: str, name: str = "child", grace_s: float = 10.0) -> Command:
    return Command(name=name, argv=argv, env=os.environ, log=folders.logs / f"{name}.log", grace_s=grace_s)


def shell(folders: Folders, script: str, *, grace_s: float = 10.0) -> Command:
    return command(folders, "sh", "-c", script, grace_s=grace_s)


async def test_a_child_dies_with_a_parent_that_was_killed(folders: Folders) -> None:
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DRIVER, str(folders.run), stdout=subprocess.PIPE, cwd=ROOT
    )
    assert driver.stdout is not None
    assert await driver.stdout.readline() == b"spawned\n"
    child = json.loads((folders.run / "child.pid").read_text())["pid"]
    assert started_at(child) is not None
    driver.kill()
    await driver.wait()
    await until(lambda: started_at(child) is None, what="the child's end")


async def test_a_stopped_child_leaves_no_pid_file(folders: Folders, spawning: Spawning) -> None:
    child = spawning(command(folders, "sleep", "600"))
    assert child.is_running()
    assert (folders.run / "child.pid").exists()
    await child.stop()
    assert child.exit_code == -signal.SIGTERM
    assert not child.is_running()
    assert not (folders.run / "child.pid").exists()


async def test_a_child_that_ignores_its_signal_is_killed_after_the_grace_period(
    folders: Folders, spawning: Spawning
) -> None:
    child = spawning(shell(folders, "trap '' TERM; echo deaf; while true; do sleep 0.1; done", grace_s=0.2))
    await until(lambda: "deaf" in child.output())
    await child.stop()
    assert child.exit_code == -signal.SIGKILL


async def test_the_rest_of_a_child_s_group_is_killed_with_it(folders: Folders, spawning: Spawning) -> None:
    child = spawning(shell(folders, "sleep 600 & echo $!; exit 3"))
    assert await child.wait() == 3
    grandchild = int(child.output())
    await until(lambda: started_at(grandchild) is None, what="the grandchild's end")


async def test_leftovers_are_stopped_even_if_they_ignore_signals(
    folders: Folders, spawning: Spawning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LEFTOVER_GRACE_S", 0.2)
    child = spawning(shell(folders, "trap '' TERM; echo deaf; while true; do sleep 0.1; done"))
    await until(lambda: "deaf" in child.output())
    assert await stop_leftovers(folders.run) == ["child"]
    assert started_at(child.pid) is None
    assert list(folders.run.iterdir()) == []


async def test_a_process_with_a_reused_pid_is_left_alone(folders: Folders, spawning: Spawning) -> None:
    stranger = spawning(command(folders, "sleep", "600"))
    pid_file = folders.run / "child.pid"
    known = json.loads(pid_file.read_text())
    pid_file.write_text(json.dumps(known | {"started_at": known["started_at"] - 1}))
    assert await stop_leftovers(folders.run) == []
    assert stranger.is_running()


async def test_a_pid_of_another_boot_is_left_alone(folders: Folders, spawning: Spawning) -> None:
    stranger = spawning(command(folders, "sleep", "600"))
    pid_file = folders.run / "child.pid"
    pid_file.write_text(json.dumps(json.loads(pid_file.read_text()) | {"boot_id": "another"}))
    assert await stop_leftovers(folders.run) == []
    assert stranger.is_running()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "null"])
async def test_a_torn_pid_file_is_removed(folders: Folders, content: str) -> None:
    (folders.run / "child.pid").write_text(content)
    assert await stop_leftovers(folders.run) == []
    assert list(folders.run.iterdir()) == []


async def test_a_zombie_counts_as_gone(folders: Folders, spawning: Spawning) -> None:
    child = spawning(command(folders, "true"))
    await until(lambda: not child.is_running())
    os.kill(child.pid, 0)  # its pid is not yet free
    assert started_at(child.pid) is None


async def test_a_failed_command_is_reported_with_its_last_output(folders: Folders) -> None:
    with pytest.raises(StartupRefused, match=r"child failed with exit code 7: no luck \(see .*child\.log\)"):
        await run(shell(folders, "echo no luck; exit 7"), folders.run)


async def test_a_child_reports_only_its_own_output(folders: Folders, spawning: Spawning) -> None:
    for word in ("first", "second"):
        child = spawning(shell(folders, f"echo {word}"))
        await child.wait()
        assert child.output() == f"{word}\n"
    assert last_words(child).startswith("second (see ")


async def test_a_cancelled_run_ends_its_command(folders: Folders) -> None:
    running = asyncio.create_task(run(command(folders, "sleep", "600"), folders.run))
    await until((folders.run / "child.pid").exists)
    pid = json.loads((folders.run / "child.pid").read_text())["pid"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert started_at(pid) is None
