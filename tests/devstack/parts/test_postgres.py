"""Postgres starts as any user and after any crash."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest

from ragsvc.devstack.parts import postgres_files
from ragsvc.devstack.parts.postgres import Postgres
from ragsvc.devstack.ports import free_ports
from ragsvc.devstack.process import started_at
from ragsvc.devstack.stack import open_folders, start
from ragsvc.errors.base import StartupRefused
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.devstack.process import Process
    from ragsvc.devstack.stack import Folders
    from tests.devstack.conftest import Starting

FAST = {"fsync": "off"}


def make(folders: Folders, *, data_dir: Path | None = None) -> Postgres:
    return Postgres(
        data_dir or folders.root,
        port=free_ports(1)[0],
        password="secret",
        logs=folders.logs,
        run_dir=folders.run,
        options=FAST,
    )


@pytest.fixture(scope="module")
def folders() -> Iterator[Folders]:
    """One data directory for all these tests, since creating a cluster is slow."""
    root = Path(tempfile.mkdtemp(prefix="ragsvc-test-"))
    yield open_folders(root)
    shutil.rmtree(root)


@pytest.fixture
def postgres(folders: Folders) -> Postgres:
    return make(folders)


@pytest.fixture
def home(folders: Folders) -> Path:
    return make(folders).home


def leave_half_made(home: Path) -> None:
    postgres_files.open_home(home, password="secret")
    if (home / "cluster").exists():
        postgres_files.remove(home / "cluster")
    (home / "cluster-new-killed").mkdir()
    (home / "cluster-new-killed" / "PG_VERSION").write_text("18")


async def write_row(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.url)
    await connection.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 1 AS n")
    await connection.close()


async def count_rows(postgres: Postgres) -> int:
    connection = await asyncpg.connect(postgres.url)
    try:
        rows: int = await connection.fetchval("SELECT count(*) FROM kept")
    finally:
        await connection.close()
    return rows


def kill_family(process: Process) -> None:
    """Kill a server and its backends without reaping them, so that the server remains a zombie."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    for backend in family:
        # It has already exited by itself.
        with contextlib.suppress(psutil.NoSuchProcess):
            backend.kill()


async def test_it_has_pgvector_and_the_contrib_extensions(postgres: Postgres, starting: Starting) -> None:
    async with starting(postgres):
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("CREATE EXTENSION vector; CREATE EXTENSION pg_trgm; CREATE EXTENSION unaccent")
        assert await connection.fetchval("SELECT '[1,2]'::halfvec <=> '[2,4]'") == pytest.approx(0, abs=1e-6)
        version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        assert tuple(map(int, version.split("."))) >= (0, 8, 4)
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
        await connection.close()


async def test_it_requires_the_password(postgres: Postgres, starting: Starting) -> None:
    async with starting(postgres):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(postgres.url.replace(":secret@", ":guess@"))


async def test_it_does_not_run_as_root(postgres: Postgres, starting: Starting) -> None:
    async with starting(postgres) as process:
        assert psutil.Process(process.pid).uids().effective != 0


async def test_committed_rows_survive_a_kill_of_all_processes(postgres: Postgres, folders: Folders) -> None:
    first = await start(postgres, folders.run)
    await write_row(postgres)
    kill_family(first)
    # The server is not reaped, so its lock file names a zombie, which Postgres takes for a running server.
    await until(lambda: not first.is_running())
    second = await start(make(folders), folders.run)
    try:
        assert first.exit_code is None
    finally:
        await second.stop()
        await first.wait()
    third = await start(postgres, folders.run)
    assert await count_rows(postgres) == 1
    await third.stop()


async def test_orphaned_backends_do_not_prevent_a_restart(postgres: Postgres, folders: Folders) -> None:
    first = await start(postgres, folders.run)
    await write_row(postgres)
    family = psutil.Process(first.pid).children()
    checkpointer = next(child for child in family if child.cmdline()[0].startswith("postgres: checkpointer"))
    checkpointer.suspend()  # so that it cannot notice the server's end
    first.kill()
    await first.wait()
    assert started_at(checkpointer.pid) is not None
    second = await start(postgres, folders.run)
    try:
        assert await count_rows(postgres) == 1
        assert started_at(checkpointer.pid) is None
    finally:
        await second.stop()


async def test_a_lock_with_a_reused_pid_does_not_prevent_a_restart(
    postgres: Postgres, folders: Folders, home: Path
) -> None:
    first = await start(postgres, folders.run)
    await write_row(postgres)
    await first.stop()
    lock = home / "cluster" / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{home}/cluster\n1\n5432\n\n127.0.0.1\n\nready\n")
    second = await start(postgres, folders.run)
    assert await count_rows(postgres) == 1
    await second.stop()


async def test_a_half_made_cluster_is_recreated(postgres: Postgres, home: Path, starting: Starting) -> None:
    leave_half_made(home)
    async with starting(postgres):
        await write_row(postgres)
    assert {name for name in os.listdir(home) if name.startswith("cluster")} == {"cluster"}  # noqa: PTH208


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
async def test_a_data_directory_in_a_private_home_works(tmp_path: Path, starting: Starting, folders: Folders) -> None:
    private = make(folders, data_dir=tmp_path)  # below a pytest folder that others cannot traverse
    assert private.home.parent == postgres_files.ELSEWHERE
    try:
        async with starting(private):
            await write_row(private)
    finally:
        shutil.rmtree(private.home)


def test_leftovers_of_a_removed_data_directory_are_emptied(tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    postgres_files.open_home(home, password="of the first")
    (home / "cluster").mkdir()
    postgres_files.open_home(home, password="of the first")
    assert (home / "cluster").exists()
    postgres_files.open_home(home, password="of the second")
    assert not (home / "cluster").exists()


def test_an_external_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "target")
    with pytest.raises(StartupRefused, match="belongs to another user"):
        postgres_files.open_home(tmp_path / "elsewhere", password="secret")
