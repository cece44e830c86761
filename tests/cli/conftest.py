"""A complete service for the commands, and the command line in this process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest
from pydantic import SecretStr

from ragsvc.cli.app import run
from ragsvc.devstack.parts.services import Api, Worker
from ragsvc.devstack.ports import LOOPBACK, free_ports
from ragsvc.devstack.stack import open_folders, start
from tests.support.environment import variables_of
from tests.support.servers.databases import cloned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings

CLIENT_VARIABLES = ("RAGSVC_URL", "RAGSVC_API_KEY", "RAGSVC_ADMIN_KEY", "ADMIN_API_KEY", "RAGSVC_DEBUG")


@dataclass(frozen=True, slots=True)
class Result:
    """A command's output and exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return orjson.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """The JSON documents on stdout, one per line."""
        return [orjson.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> str:
        """The one line on stderr, apart from the one that says which service the command acts on."""
        lines = [line for line in self.err.splitlines() if not re.fullmatch(r"on \S+ \(from [^)]+\)", line)]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0].removeprefix("error: ").strip()


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The command line, with its own environment and folder."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *args: str) -> Result:
        """Run a command in this process."""
        self.capsys.readouterr()
        code = run(args)
        said = self.capsys.readouterr()
        return Result(code, said.out, said.err)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """A command line without any configuration."""
    for name in CLIENT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys)


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: an API process, two workers, and their keys."""

    url: str
    admin_key: str
    env: dict[str, str]


@pytest.fixture(scope="session")
async def service(base_settings: Settings, template: str) -> AsyncIterator[Service]:
    """The service in separate processes, on its own database."""
    own = uuid.uuid4().hex[:12]
    root = Path(tempfile.mkdtemp(prefix="ragsvc-cli-"))
    folders = open_folders(root)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, root)
        url = await stack.enter_async_context(
            cloned(base_settings.stores.database_url.get_secret_value(), template=template)
        )
        port = free_ports(1)[0]
        changed = {
            "database_url": SecretStr(url),
            "queue_prefix": f"cli-{own}",
            "s3_bucket_prefix": f"cli-{own}",
            "port": port,
            "sweep_interval_s": 1.0,
            "backoff_cap_s": 1.0,
        }
        env = to_environment(base_settings.changed(changed))
        for part in (
            Api(name="api", port=port, shares_port=False, env=env, logs=folders.logs),
            Worker(name="ingestion", settings_class="IngestionSettings", env=env, logs=folders.logs),
            Worker(name="deletion", settings_class="DeletionSettings", env=env, logs=folders.logs),
        ):
            process = await start(part, folders.run)
            stack.push_async_callback(process.stop)
        yield Service(f"http://{LOOPBACK}:{port}", env["ADMIN_API_KEY"], env)


@pytest.fixture
async def tenant(service: Service) -> dict[str, str]:
    """The id and a key of a new workspace."""
    return await open_tenant(service)


async def open_tenant(service: Service) -> dict[str, str]:
    """Create a workspace and return its id and a key."""
    async with aiohttp.ClientSession(
        service.url, headers={"Authorization": f"Bearer {service.admin_key}"}, raise_for_status=True
    ) as session:
        async with session.post("/v1/workspaces", json={"name": "acme"}) as answer:
            workspace = await answer.json()
        async with session.post(f"/v1/workspaces/{workspace['id']}/keys", json={"name": "cli"}) as answer:
            key = await answer.json()
    return {"id": workspace["id"], "key": key["key"]}


@pytest.fixture
def user(cli: CommandLine, service: Service, tenant: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line with a workspace key."""
    monkeypatch.setenv("RAGSVC_URL", service.url)
    monkeypatch.setenv("RAGSVC_API_KEY", tenant["key"])
    return cli


@pytest.fixture
def operator(cli: CommandLine, service: Service, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The operator's command line, with the admin key and the stores."""
    monkeypatch.setenv("RAGSVC_URL", service.url)
    monkeypatch.setenv("RAGSVC_ADMIN_KEY", service.admin_key)
    for name in ("DATABASE_URL", "REDIS_URL", "QUEUE_PREFIX"):
        monkeypatch.setenv(name, service.env[name])
    return cli


def start_cli(*args: str, stdout: int = subprocess.PIPE, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command in a separate process."""
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "ragsvc", *args],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        text=True,
    )


def to_environment(settings: Settings) -> dict[str, str]:
    """Return the environment for these settings."""
    return {**os.environ, **variables_of(settings)}
