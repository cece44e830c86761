"""`ragsvc serve` in one process and in several."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
import psutil

from ragsvc.embedded.ports import free_ports, listens
from tests.cli.conftest import start_cli, to_environment
from tests.support.polling import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    import pytest

    from ragsvc.settings import Settings
    from tests.cli.conftest import CommandLine


@contextmanager
def serving(settings: Settings, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = start_cli("serve", *args, env=to_environment(settings))
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


async def is_ready(port: int) -> bool:
    try:
        async with aiohttp.request("GET", f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def listening(parent: int, port: int) -> set[int]:
    children = psutil.Process(parent).children()
    return {child.pid for child in children if listens(child.pid, port)}


async def test_sigterm_ends_a_server_with_0(settings: Settings) -> None:
    (port,) = free_ports(1)
    with serving(settings, "--host", "127.0.0.1", "--port", str(port)) as server:
        await until(lambda: is_ready(port), what="the server")
        server.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.wait, 20) == 0


async def test_several_processes_share_a_port_and_a_killed_one_comes_back(settings: Settings) -> None:
    (port,) = free_ports(1)
    with serving(settings, "--port", str(port), "--workers", "2") as server:
        await until(lambda: len(listening(server.pid, port)) == 2, what="the fleet")
        victim = min(listening(server.pid, port))
        os.kill(victim, signal.SIGKILL)
        await until(lambda: victim not in listening(server.pid, port) and len(listening(server.pid, port)) == 2)
        assert await is_ready(port)
        server.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.wait, 20) == 0


async def test_no_process_outlives_a_killed_fleet(settings: Settings) -> None:
    (port,) = free_ports(1)
    with serving(settings, "--port", str(port), "--workers", "2") as server:
        await until(lambda: len(listening(server.pid, port)) == 2, what="the fleet")
        workers = psutil.Process(server.pid).children()
        server.kill()
        await until(lambda: not any(worker.is_running() and listens(worker.pid, port) for worker in workers))


async def test_a_fleet_that_cannot_start_ends_with_its_reason(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": type(settings.database_url)("postgresql://x@127.0.0.1:9/x")})
    server = start_cli("serve", "--port", "1", "--workers", "2", env=to_environment(away))
    _, said = await asyncio.to_thread(server.communicate, timeout=30)
    assert server.returncode == 1
    assert "error: Postgres at DATABASE_URL cannot be used" in said


def test_a_fleet_needs_a_port_to_share(cli: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("database_url", "redis_url"):
        monkeypatch.setenv(name.upper(), getattr(settings, name).get_secret_value())
    result = cli("serve", "--workers", "2", "--port", "0")
    assert result.code == 2
    assert "--port 0" in result.error
