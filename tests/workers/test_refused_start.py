"""A worker that cannot start reports why in one line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from ragsvc.devstack.ports import free_ports
from tests.http.support.processes import environment
from tests.support.servers.servers import ROOT

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings


@pytest.mark.parametrize("settings_class", ["IngestionSettings", "DeletionSettings"])
async def test_a_worker_without_postgres_exits_with_one_error_message(settings: Settings, settings_class: str) -> None:
    (port,) = free_ports(1)
    away = settings.changed({"database_url": SecretStr(f"postgresql://ragsvc@127.0.0.1:{port}/ragsvc")})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "arq", f"ragsvc.workers.{settings_class}"),
        cwd=ROOT,
        env=environment(away),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 1
    assert output.count("ragsvc: Postgres at DATABASE_URL cannot be used") == 1, output
    assert "Traceback" not in output
