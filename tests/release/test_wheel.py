"""The wheel and the sdist can be built, installed and run without the repository."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tarfile
import uuid
import zipfile
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from pydantic import SecretStr

from ragsvc.devstack.ports import LOOPBACK, free_ports
from ragsvc.devstack.process import Command, spawn
from tests.support.environment import variables_of
from tests.support.polling import until
from tests.support.servers.databases import cloned
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings

# The fixture is expensive, so all tests here run in one worker.
pytestmark = pytest.mark.xdist_group("release")

UV = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
VERSION = "0.1.0"
READY_TIMEOUT_S = 120.0
TOOL_TIMEOUT_S = 600.0
# Most of these would make uv use the tests' environment. UV_COMPILE_BYTECODE would make it compile bytecode, which
# takes longer than the whole test.
NOT_FOR_UV = {"VIRTUAL_ENV", "UV_COMPILE_BYTECODE", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH"}


@dataclass(frozen=True, slots=True)
class Release:
    """The built files, and a virtual environment with only the wheel and its dependencies."""

    wheel: Path
    sdist: Path
    bin: Path

    def run(self, program: str, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run an installed program outside the repository and return its output."""
        return run(str(self.bin / program), *arguments, cwd=self.wheel.parent, env=env)


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(  # noqa: S603 - our own commands
        command,
        cwd=cwd,
        env={name: value for name, value in (os.environ if env is None else env).items() if name not in NOT_FOR_UV},
        capture_output=True,
        text=True,
        check=False,
        timeout=TOOL_TIMEOUT_S,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_uv(*arguments: str, cwd: Path = ROOT) -> str:
    """Run uv offline if its cache has everything, otherwise online."""
    try:
        return run(UV, *arguments, "--offline", cwd=cwd)
    except AssertionError:
        return run(UV, *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Build the sdist, build the wheel from it, and install the wheel with the locked dependencies."""
    folder = tmp_path_factory.mktemp("release")
    # Without `--wheel` and `--sdist`, uv builds the wheel from the unpacked sdist.
    run_uv("build", "--quiet", "--out-dir", str(folder))
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    requirements = run_uv("export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes")
    (folder / "requirements.txt").write_text(requirements)
    python = folder / "venv" / "bin" / "python"
    run_uv("venv", "--quiet", "--python", sys.executable, str(folder / "venv"), cwd=folder)
    install = ("pip", "install", "--quiet", "--python", str(python))
    # Install only the requirements that the wheel declares, in the locked versions: an undeclared one would be missing.
    run_uv(*install, "--constraints", "requirements.txt", str(wheel), cwd=folder)
    return Release(wheel, sdist, python.parent)


@pytest.fixture
async def own_settings(base_settings: Settings) -> AsyncIterator[Settings]:
    """Settings with an empty database, and a free port."""
    own = uuid.uuid4().hex[:12]
    async with cloned(base_settings.stores.database_url.get_secret_value(), template="template1") as url:
        yield base_settings.changed(
            {
                "database_url": SecretStr(url),
                "queue_prefix": f"release-{own}",
                "s3_bucket_prefix": f"release-{own}",
                "port": free_ports(1)[0],
            }
        )


def test_the_files_are_named_after_the_version(release: Release) -> None:
    assert release.wheel.name == f"ragsvc-{VERSION}-py3-none-any.whl"
    assert release.sdist.name == f"ragsvc-{VERSION}.tar.gz"


def test_the_wheel_contains_the_package_the_migrations_and_the_samples(release: Release) -> None:
    with zipfile.ZipFile(release.wheel) as wheel:
        names = set(wheel.namelist())
    assert {f"ragsvc/sql/{path.name}" for path in (ROOT / "sql").glob("*.sql")} <= names
    assert {f"ragsvc/devstack/samples/{path.name}" for path in samples()} <= names
    assert "ragsvc/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"ragsvc", f"ragsvc-{VERSION}.dist-info"}


def test_the_sdist_contains_the_tests_and_the_documents(release: Release) -> None:
    with tarfile.open(release.sdist) as sdist:
        tops = {name.split("/")[1] for name in sdist.getnames() if "/" in name}
    assert {"ragsvc", "sql", "tests", "docs", "deploy", "README.md", "CHANGELOG.md", "LICENSE", "uv.lock"} <= tops
    assert not tops & {".venv", ".uv", ".ragsvc", ".bench", "dist"}


def test_the_installed_command_knows_its_version_and_its_samples(release: Release, tmp_path: Path) -> None:
    assert release.run("ragsvc", "--version").strip() == VERSION
    installed = release.run("python", "-c", "import ragsvc; print(ragsvc.__file__)").strip()
    assert Path(installed).is_relative_to(release.bin.parent)
    release.run("ragsvc", "samples", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in samples()}


def test_the_dev_stack_is_an_extra(release: Release) -> None:
    with pytest.raises(AssertionError, match=r"needs the extra ragsvc\[devstack\]"):
        release.run("ragsvc", "dev")


async def test_the_installed_service_migrates_and_serves(
    release: Release, own_settings: Settings, tmp_path: Path
) -> None:
    env = {**os.environ, **variables_of(own_settings)}
    migrated = await asyncio.to_thread(release.run, "ragsvc", "migrate", env=env)
    assert [line for line in migrated.splitlines() if line.startswith("applied ")] == [
        f"applied {path.name}" for path in sorted((ROOT / "sql").glob("*.sql"))
    ]
    argv = (str(release.bin / "ragsvc"), "serve", "--host", LOOPBACK)
    process = spawn(
        Command(name="api", argv=argv, env=env, log=tmp_path / "api.log", cwd=tmp_path, grace_s=40.0), tmp_path
    )
    try:

        async def look() -> bool:
            assert process.is_running(), process.output()
            return await is_ready(own_settings.api.port)

        await until(look, timeout_s=READY_TIMEOUT_S, what="a ready API")
    finally:
        await process.stop()
    assert process.exit_code == 0, process.output()


async def is_ready(port: int) -> bool:
    try:
        async with aiohttp.request("GET", f"http://{LOOPBACK}:{port}/readyz") as response:
            return response.status == HTTPStatus.OK
    except aiohttp.ClientError:
        return False


def samples() -> list[Path]:
    return sorted((ROOT / "ragsvc" / "devstack" / "samples").iterdir())
