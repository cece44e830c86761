"""`ragsvc dev` as a whole: its output, and its reaction when a process dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import psutil
import pytest

from ragsvc.devstack.ports import free_ports, listens
from ragsvc.devstack.tenant import Tenant, open_tenant
from ragsvc.errors.base import StartupRefused
from tests.support.polling import until
from tests.support.servers.servers import ROOT
from tests.support.servers.stacks import alive, all_pids, new_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.settings.settings import Settings
    from tests.support.servers.servers import Servers
    from tests.support.servers.stacks import Stack

# The shared servers have already cached the models. One xdist worker runs the whole module, so that it needs one stack.
pytestmark = [pytest.mark.usefixtures("servers"), pytest.mark.xdist_group("ragsvc-dev")]


@pytest.fixture(scope="module")
def cache(pytestconfig: pytest.Config) -> Path:
    folder: Path = pytestconfig.cache.mkdir("ragsvc-models")
    return folder


@pytest.fixture(scope="module")
async def running(cache: Path) -> AsyncIterator[Stack]:
    """One stack for the tests that leave it running."""
    async with new_stack(cache) as stack:
        await stack.start()
        yield stack


async def own_workspace(ready: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {ready['api_key']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{ready['base_url']}/v1/workspace") as answer,
    ):
        assert answer.status == 200, await answer.text()
        workspace: dict[str, Any] = await answer.json()
        return workspace


def ready_of(stack: Stack) -> dict[str, Any]:
    ready = stack.read()
    assert ready is not None
    return ready


async def until_replaced(stack: Stack, kind: str, pid: int) -> dict[str, Any]:
    """Wait until the ready file names a new process of the kind."""

    def look() -> dict[str, Any] | None:
        ready = ready_of(stack)
        named = ready["pids"][kind]
        pids = named if isinstance(named, list) else [named]
        return ready if pids and pid not in pids and pids != [None] else None

    return await until(look, timeout_s=60, what=f"another process of {kind}")


async def test_the_ready_file_is_complete(running: Stack) -> None:
    ready = ready_of(running)
    assert set(ready) == {
        *("base_url", "workspace_id", "api_key", "admin_key", "database_url", "redis_url", "queue_prefix", "s3"),
        *("models_url", "embeddings_url", "supervisor_pid", "pids"),
    }
    assert set(ready["s3"]) == {"endpoint_url", "access_key_id", "secret_access_key", "region", "bucket"}
    assert set(ready["pids"]) == {"api", "ingestion", "deletion", "postgres", "redis", "s3", "models"}
    assert ready["supervisor_pid"] == running.supervisor.pid
    assert alive(all_pids(ready)) == all_pids(ready)
    assert len(all_pids(ready)) == 7
    assert (await own_workspace(ready))["id"] == ready["workspace_id"]
    assert running.ready_file.stat().st_mode & 0o777 == 0o600


async def test_the_workers_are_plain_commands(running: Stack) -> None:
    pids = ready_of(running)["pids"]
    arq = str(Path(sys.executable).parent / "arq")
    assert psutil.Process(pids["ingestion"][0]).cmdline()[1:] == [arq, "ragsvc.workers.IngestionSettings"]
    assert psutil.Process(pids["deletion"][0]).cmdline()[1:] == [arq, "ragsvc.workers.DeletionSettings"]
    assert psutil.Process(pids["api"][0]).cmdline()[1:] == ["-m", "ragsvc", "serve"]


async def test_no_secret_is_on_a_command_line(running: Stack) -> None:
    ready = ready_of(running)
    password = ready["redis_url"].split(":")[2].split("@")[0]
    secrets = {ready["api_key"], ready["admin_key"], ready["s3"]["secret_access_key"], password}
    lines = [" ".join(psutil.Process(pid).cmdline()) for pid in all_pids(ready)]
    assert not [secret for secret in secrets for line in lines if secret in line]


@pytest.mark.parametrize("kind", ["ingestion", "deletion"])
async def test_a_killed_worker_is_restarted_and_the_ready_file_follows(running: Stack, kind: str) -> None:
    (pid,) = ready_of(running)["pids"][kind]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pid not in ready_of(running)["pids"][kind], timeout_s=1, what="the removal of the dead pid")
    await until(lambda: list((running.data_dir / "run").glob(f"{kind}-1.pid")), timeout_s=1, what="the next process")
    ready = await until_replaced(running, kind, pid)
    assert alive(set(ready["pids"][kind])) == set(ready["pids"][kind])


async def test_killed_servers_are_restarted_with_their_data(running: Stack) -> None:
    before = ready_of(running)
    for kind in ("postgres", "redis", "s3", "models"):
        os.kill(before["pids"][kind], signal.SIGKILL)
    for kind in ("postgres", "redis", "s3", "models"):
        after = await until_replaced(running, kind, before["pids"][kind])
    assert after["database_url"] == before["database_url"]

    async def is_back() -> bool:
        try:
            return bool((await own_workspace(after))["id"] == before["workspace_id"])
        except (AssertionError, aiohttp.ClientError):
            return False

    await until(is_back, timeout_s=60, what="the API's recovery")


async def test_a_second_start_on_the_same_data_directory_is_refused(running: Stack) -> None:
    before = ready_of(running)
    second = await asyncio.create_subprocess_exec(*running.command, cwd=ROOT, stderr=subprocess.PIPE)
    _, said = await second.communicate()
    assert second.returncode == 1
    assert f"`ragsvc dev` (pid {running.supervisor.pid}) already runs on" in said.decode()
    assert ready_of(running)["pids"] == before["pids"]


async def test_a_taken_port_is_reported_and_nothing_is_started(running: Stack, cache: Path) -> None:
    port = ready_of(running)["base_url"].rpartition(":")[2]
    async with new_stack(cache, options=("--port", port)) as stack:
        await stack.spawn()
        assert await stack.supervisor.wait() == 1
        assert f"port {port} is taken" in stack.output()
        assert not (stack.data_dir / "postgres").exists()


@pytest.mark.parametrize("ready_file", ["nowhere/ready.json", "data"])
async def test_an_unwritable_ready_file_is_reported_and_nothing_is_started(cache: Path, ready_file: str) -> None:
    async with new_stack(cache) as stack:
        stack.ready_file = stack.root / ready_file
        await stack.spawn()
        assert await stack.supervisor.wait() == 2
        assert f"--ready-file: {stack.ready_file} cannot be written" in stack.output()
        assert [path.name for path in stack.data_dir.iterdir()] == ["cache"]


async def test_the_same_workspace_is_offered_even_if_its_key_is_gone(running: Stack, tmp_path: Path) -> None:
    ready = ready_of(running)
    stored_at = tmp_path / "tenant.json"

    async def offered() -> Tenant:
        return await open_tenant(ready["base_url"], admin_key=ready["admin_key"], stored_at=stored_at)

    first = await offered()
    assert first.workspace_id == ready["workspace_id"]
    assert first.bucket == ready["s3"]["bucket"]
    assert await offered() == first
    stored_at.unlink()
    second = await offered()
    assert (second.workspace_id, second.api_key != first.api_key) == (first.workspace_id, True)
    stored_at.write_text(json.dumps(asdict(second) | {"api_key": "of another database"}))
    third = await offered()
    assert third.workspace_id == first.workspace_id
    assert await offered() == third


async def test_an_api_that_refuses_the_admin_key_is_reported(running: Stack, tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match="returned 401"):
        await open_tenant(ready_of(running)["base_url"], admin_key="guess", stored_at=tmp_path / "tenant.json")


async def test_a_restart_works_after_a_kill_of_the_supervisor_or_of_everything(running: Stack) -> None:
    first = ready_of(running)
    assert await running.stop(signal.SIGKILL) == -signal.SIGKILL
    second = await running.start()
    assert alive(all_pids(first)) == set()
    for pid in {running.supervisor.pid, *all_pids(second)}:
        os.kill(pid, signal.SIGKILL)
    await running.supervisor.wait()
    third = await running.start()
    for ready in (second, third):
        assert [ready[same] for same in ("workspace_id", "api_key", "admin_key")] == [
            first[same] for same in ("workspace_id", "api_key", "admin_key")
        ]
        assert ready["s3"]["bucket"] == first["s3"]["bucket"]
    assert (await own_workspace(third))["id"] == first["workspace_id"]


async def test_a_signal_during_the_start_stops_it(cache: Path) -> None:
    async with new_stack(cache) as stack:
        await stack.spawn()
        await until((stack.data_dir / "run" / "postgres.pid").exists, timeout_s=60)
        assert await stack.stop(signal.SIGTERM) == 0
        assert stack.list_pid_files() == []
        assert stack.read() is None


@pytest.fixture
def given(servers: Servers, settings: Settings) -> dict[str, str]:
    """An environment with a URL for every server."""
    return {
        "DATABASE_URL": settings.stores.database_url.get_secret_value(),
        "REDIS_URL": servers.redis_url,
        "QUEUE_PREFIX": settings.stores.queue_prefix,
        "S3_ENDPOINT_URL": servers.s3_url,
        "S3_ACCESS_KEY_ID": servers.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": servers.s3_secret_access_key,
        "S3_BUCKET_PREFIX": settings.stores.s3_bucket_prefix,
        "OPENAI_BASE_URL": servers.models_url,
        "OPENAI_API_KEY": servers.models_api_key,
        "CHAT_MODEL": settings.llm.chat_model,
        "EMBEDDING_MODEL": settings.llm.embedding_model,
        "EMBEDDING_DIMENSIONS": str(settings.llm.embedding_dimensions),
        "EMBEDDING_MAX_INPUT_TOKENS": "256",
        "EMBEDDING_TOKENIZER": servers.tokenizer,
        "CHUNK_MAX_TOKENS": "240",
        "CHUNK_OVERLAP_TOKENS": "32",
    }


async def test_given_servers_replace_the_stack_s_own(cache: Path, given: dict[str, str]) -> None:
    async with new_stack(cache, options=("--api-workers", "2"), env=given) as stack:
        ready = await stack.start()
        assert [ready["pids"][part] for part in ("postgres", "redis", "s3", "models")] == [None] * 4
        assert len(ready["pids"]["api"]) == 2
        assert ready["database_url"] == given["DATABASE_URL"]
        assert ready["models_url"] == given["OPENAI_BASE_URL"]
        assert ready["s3"]["access_key_id"] == given["S3_ACCESS_KEY_ID"]
        assert ready["queue_prefix"] == given["QUEUE_PREFIX"]
        connection = await asyncpg.connect(given["DATABASE_URL"])
        assert await connection.fetchval("SELECT count(*) FROM workspaces") == 1
        await connection.close()


async def test_the_api_has_the_metrics_port_and_every_worker_one_of_its_own(cache: Path, given: dict[str, str]) -> None:
    (port,) = free_ports(1)
    options = ("--api-workers", "2", "--ingestion-workers", "2")
    async with new_stack(cache, options=options, env=given | {"METRICS_PORT": str(port)}) as stack:
        ready = await stack.start()
        assert [listens(pid, port) for pid in ready["pids"]["api"]] == [True, True]
        scraped = {}
        for name in ("ingestion-1", "ingestion-2", "deletion-1"):
            log = (stack.data_dir / "logs" / f"{name}.log").read_text()
            logged = re.search(r"metrics_started.*port\S*=\S*?(\d{4,5})\b", log)
            assert logged is not None, log
            scraped[name] = int(logged[1])
        scraped["api"] = port
        assert len(set(scraped.values())) == len(scraped)
        for one in scraped.values():
            async with aiohttp.request("GET", f"http://127.0.0.1:{one}/metrics") as answer:
                assert answer.status == 200
                assert "ragsvc_" in await answer.text()


async def test_a_wrong_setting_is_reported_and_everything_is_stopped(cache: Path, given: dict[str, str]) -> None:
    async with new_stack(cache, env=given | {"CHUNK_MAX_TOKENS": "300"}) as stack:
        await stack.spawn()
        assert await stack.supervisor.wait() == 1
        assert "CHUNK_MAX_TOKENS is 300, but all-MiniLM-L6-v2 takes at most 256 tokens" in stack.output()
        assert stack.list_pid_files() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the other tests already run as a normal user")
async def test_a_normal_user_can_run_it(cache: Path) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed")
    # Coverage cannot write to folders that this user cannot access.
    async with new_stack(cache, env={"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}) as stack:
        # The interpreter may be in root's home, so the user can read everything but is otherwise unprivileged.
        stack.prefix = (
            *(setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups"),
            *("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"),
        )
        stack.give_away(65534)
        ready = await stack.start()
        assert {psutil.Process(pid).uids().real for pid in all_pids(ready)} == {65534}
        assert (await own_workspace(ready))["id"] == ready["workspace_id"]


async def test_ctrl_c_stops_everything_cleanly(running: Stack) -> None:
    ready = ready_of(running)
    assert await running.stop(signal.SIGINT) == 0
    assert alive(all_pids(ready)) == set()
    assert running.read() is None
    assert running.list_pid_files() == []
