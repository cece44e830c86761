"""Redis retains acknowledged writes, and the machine's own server is used if it is recent enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError

from ragsvc.devstack.parts.redis import Redis, find_server
from ragsvc.devstack.ports import free_ports
from ragsvc.devstack.stack import start
from tests.support.polling import until

if TYPE_CHECKING:
    from ragsvc.devstack.stack import Folders
    from tests.devstack.conftest import Starting


@pytest.fixture
def server(folders: Folders) -> Redis:
    return Redis(folders.root / "redis", port=free_ports(1)[0], password="secret", logs=folders.logs)


def connect(url: str) -> redis.asyncio.Redis:
    client: redis.asyncio.Redis = redis.asyncio.from_url(url)  # type: ignore[no-untyped-call]
    return client


async def has_written_everything(client: redis.asyncio.Redis) -> bool:
    """Return whether the append-only file contains every acknowledged write."""
    return bool((await client.info("persistence"))["aof_buffer_length"] == 0)


async def test_acknowledged_writes_survive_a_kill(server: Redis, folders: Folders, starting: Starting) -> None:
    process = await start(server, folders.run)
    async with connect(server.url) as client:
        for number in range(100):
            await client.set(f"key {number}", number)
        # While an earlier fsync is slow, Redis postpones writing to its file for up to 2 s.
        await until(lambda: has_written_everything(client))
    process.kill()
    await process.wait()
    async with starting(server), connect(server.url) as client:
        assert await client.dbsize() == 100


async def test_a_full_server_refuses_writes_instead_of_evicting(server: Redis, starting: Starting) -> None:
    async with starting(server), connect(server.url) as client:
        assert await client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


async def test_it_requires_the_password(server: Redis, starting: Starting) -> None:
    async with starting(server), connect(server.url.replace(":secret@", ":guess@")) as client:
        with pytest.raises(AuthenticationError):
            await client.dbsize()


async def test_the_password_is_on_no_command_line(server: Redis, starting: Starting) -> None:
    async with starting(server) as process:
        assert "secret" not in " ".join(process.command.argv)
        assert (await server.prepare()).cwd == Path(process.command.argv[1]).parent


@pytest.mark.parametrize(
    ("name", "version", "taken"),
    [
        ("redis-server", "Redis server v=7.4.1 sha=00000000:0", True),
        ("valkey-server", "Valkey server v=8.0.1 sha=00000000:0", True),
        ("redis-server", "Redis server v=6.0.16 sha=00000000:0", False),
        ("redis-server", "nothing of the kind", False),
    ],
)
def test_the_machine_s_server_is_used_if_recent_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, name: str, version: str, taken: bool
) -> None:
    found = tmp_path / name
    found.write_text(f"#!/bin/sh\necho '{version}'\n")
    found.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert (find_server() == found) == taken
