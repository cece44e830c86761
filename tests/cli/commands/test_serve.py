"""`ragsvc serve` in one process and in several."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
import psutil
from pydantic import SecretStr

from ragsvc.devstack.ports import free_ports, listens
from tests.cli.conftest import start_cli, to_environment
from tests.support.polling import until
from tests.support.scrapes import Figures

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    import pytest

    from ragsvc.settings.settings import Settings
    from tests.cli.conftest import CommandLine

START_S = 60.0


@contextmanager
def serving(settings: Settings, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = start_cli("serve", *args, env=to_environment(settings))
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=START_S)


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
        await until(lambda: is_ready(port), timeout_s=START_S, what="the server")
        server.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.wait, START_S) == 0


async def test_several_processes_share_a_port_and_a_killed_one_is_restarted(settings: Settings) -> None:
    (port,) = free_ports(1)
    with serving(settings, "--port", str(port), "--workers", "2") as server:
        await until(lambda: len(listening(server.pid, port)) == 2, timeout_s=START_S, what="the fleet")
        victim = min(listening(server.pid, port))
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(listening(server.pid, port) - {victim}) == 2, timeout_s=START_S, what="the new one")
        assert await is_ready(port)
        server.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.wait, START_S) == 0


async def test_a_scrape_covers_all_processes_and_the_counters_of_killed_ones(settings: Settings) -> None:
    port, metrics_port = free_ports(2)
    alone = settings.changed({"metrics_port": metrics_port})
    with serving(alone, "--port", str(port), "--workers", "2") as server:
        await until(lambda: len(listening(server.pid, port)) == 2, timeout_s=START_S, what="the fleet")
        for _ in range(20):
            await status_of(f"http://127.0.0.1:{port}/v1/workspace")
        victim = min(listening(server.pid, port))
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(listening(server.pid, port) - {victim}) == 2, timeout_s=START_S, what="the new one")
        for _ in range(20):
            await status_of(f"http://127.0.0.1:{port}/v1/workspace")
        async with aiohttp.request("GET", f"http://127.0.0.1:{metrics_port}/metrics") as answer:
            figures = Figures(await answer.text())
    assert figures.total("ragsvc_http_requests_total", route="/v1/workspace", status="401") == 40
    # Gauges count live processes only: the pools of two processes, and no requests of the dead process.
    assert figures.total("ragsvc_db_connections_max") == 2 * settings.stores.database_pool_size
    assert figures.total("ragsvc_http_requests_in_flight") == 0


async def status_of(url: str) -> int:
    async with aiohttp.request("GET", url) as answer:
        return answer.status


async def test_no_process_outlives_a_killed_fleet(settings: Settings) -> None:
    (port,) = free_ports(1)
    with serving(settings, "--port", str(port), "--workers", "2") as server:
        await until(lambda: len(listening(server.pid, port)) == 2, timeout_s=START_S, what="the fleet")
        workers = psutil.Process(server.pid).children()
        server.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, workers, timeout=START_S)
        assert alive == []


async def test_a_fleet_that_cannot_start_ends_with_its_reason(settings: Settings) -> None:
    away = settings.changed({"database_url": SecretStr("postgresql://x@127.0.0.1:9/x")})
    (port,) = free_ports(1)
    with serving(away, "--port", str(port), "--workers", "2") as server:
        assert await asyncio.to_thread(server.wait, START_S) == 1
        assert server.stderr is not None
        assert "error: Postgres at DATABASE_URL cannot be used" in server.stderr.read()


def test_a_fleet_needs_a_port_to_share(cli: CommandLine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("database_url", "redis_url"):
        monkeypatch.setenv(name.upper(), settings.flat()[name].get_secret_value())
    monkeypatch.setenv("PORT", "1")  # set by the command; monkeypatch restores it
    result = cli("serve", "--workers", "2", "--port", "0")
    assert result.code == 2
    assert "--port 0" in result.error
