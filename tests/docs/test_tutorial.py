"""The commands of the README and the tutorial work as written, in order, on one running service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ragsvc.devstack.process import Command, Process, spawn
from ragsvc.settings.settings import FIELDS
from tests.docs.pages import blocks_of
from tests.support.polling import until
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# The fixture is expensive, so all tests here run in one worker.
pytestmark = pytest.mark.xdist_group("tutorial")

START = "make dev\n"
START_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 300.0
# The configuration of whoever runs the tests is neither used nor changed.
CONFIG = Path(tempfile.gettempdir()) / "ragsvc-tutorial-config"
CLIENT_VARIABLES = {"RAGSVC_URL", "RAGSVC_API_KEY", "RAGSVC_ADMIN_KEY"}
# What the reader sees at the end of each page's commands.
LAST_WORDS = {"README.md": "54 kilometres per hour", "docs/tutorial.md": "ingestion"}


def commands_of(page: str) -> str:
    """Return what a reader pastes or types into the second terminal: `sh` blocks, and the `$ ` lines of sessions."""
    blocks = [block for block in blocks_of(page, "sh") if block != START and not block.startswith("make demo")]
    sessions = [re.findall(r"^\$ (.+)$", block, flags=re.MULTILINE) for block in blocks_of(page, "console")]
    return "\n".join([*blocks, *("\n".join(lines) for lines in sessions)])


def environment() -> dict[str, str]:
    """Return this process's environment without ragsvc's settings, and with a free port instead of 8080."""
    ours = {name.upper() for name in FIELDS} | CLIENT_VARIABLES
    return {name: value for name, value in os.environ.items() if name not in ours} | {
        "PORT": "0",
        "XDG_CONFIG_HOME": str(CONFIG),
    }


@pytest.fixture(scope="module")
async def checkout() -> AsyncIterator[Path]:
    """A folder in which `make dev` has been run."""
    # Run the recipe instead of make, which would first install a new environment.
    recipe = re.search(r"^dev:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert recipe is not None
    assert recipe[1] == "$(RUN)ragsvc dev"
    folder = make_folder()
    argv = (sys.executable, "-m", "ragsvc", "dev")
    process = spawn(
        Command(name="dev", argv=argv, env=environment(), log=folder / "dev.log", cwd=folder, grace_s=60.0), folder
    )
    try:
        await wait_until_ready(process, folder / ".ragsvc" / "ready.json")
        yield folder
    finally:
        await process.stop()
        shutil.rmtree(folder, ignore_errors=True)


def make_folder() -> Path:
    # Not tmp_path: pytest makes its parent inaccessible to Postgres's user.
    folder = Path(tempfile.mkdtemp(prefix="ragsvc-tutorial-"))
    folder.chmod(0o711)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


async def wait_until_ready(process: Process, ready_file: Path) -> None:
    def look() -> bool:
        assert process.is_running(), process.output()
        return ready_file.exists()

    await until(look, timeout_s=START_TIMEOUT_S, what="a ready service")


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_commands_of_a_page_work_in_order(page: str, checkout: Path) -> None:
    commands = commands_of(page)
    assert ". .venv/bin/activate" in commands
    assert not re.search(r"…|<[a-z]|_XX", commands), "a reader could not paste this"
    shell = subprocess.run(  # noqa: S603 - the commands are ours
        ["/bin/bash", "-e", "-u", "-o", "pipefail", "-c", commands],
        cwd=checkout,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert shell.returncode == 0, shell.stderr + shell.stdout
    assert LAST_WORDS[page] in shell.stdout
    # curl succeeds whatever the status is.
    assert '"type":"/docs#' not in shell.stdout, shell.stdout


def test_the_tutorial_starts_the_service_as_the_test_does() -> None:
    assert blocks_of("docs/tutorial.md", "sh")[0] == START


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_jq_is_not_needed(page: str) -> None:
    assert not re.search(r"\bjq\b", commands_of(page))
