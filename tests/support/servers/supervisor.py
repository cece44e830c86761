"""A separate program that runs the shared test servers as long as any test process uses them."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ragsvc.devstack.process import stop_leftovers
from ragsvc.devstack.secrets import load_secrets, write_private
from ragsvc.devstack.stack import make_parts, open_folders, start
from tests.support.locks import is_locked, locked, try_lock

if TYPE_CHECKING:
    from ragsvc.devstack.process import Process
    from ragsvc.devstack.secrets import Secrets
    from ragsvc.devstack.stack import Part, Parts

POLL_S = 0.2
# Faster, because the data of the test databases need not survive a crash.
UNSAFE_AND_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "10s",
    "max_connections": "300",
}


async def run(folder: Path, cache: Path) -> None:
    """Start new servers, write their addresses to a file, and stop them when no test process is left."""
    stack = folder / "stack"
    if stack.exists():
        await stop_leftovers(stack / "run")
        shutil.rmtree(stack)
    folders = open_folders(stack, cache=cache)
    secrets = load_secrets(stack / "secrets.json")
    parts = make_parts(folders, secrets, postgres_options=UNSAFE_AND_FAST)
    processes: list[Process] = []
    try:
        await _start(parts, folders.run, processes)
        write_private(folder / "servers.json", _describe(parts, secrets))
        while not _is_abandoned(folder):  # noqa: ASYNC110 - the end of another process is no asyncio event
            await asyncio.sleep(POLL_S)
    finally:
        await asyncio.gather(*(process.stop() for process in processes))
        for data in (stack, parts.postgres.home):
            shutil.rmtree(data, ignore_errors=True)


async def _start(parts: Parts, run_dir: Path, processes: list[Process]) -> None:
    async def start_part(part: Part) -> None:
        processes.append(await start(part, run_dir))

    async with asyncio.TaskGroup() as group:
        for part in (parts.postgres, parts.redis, parts.s3, parts.models):
            group.create_task(start_part(part))


def _describe(parts: Parts, secrets: Secrets) -> str:
    """Return the addresses as JSON, for tests/support/servers/servers.py."""
    return json.dumps(
        {
            "postgres_url": parts.postgres.url,
            "redis_url": parts.redis.url,
            "s3_url": parts.s3.url,
            "s3_access_key_id": secrets.s3_access_key_id,
            "s3_secret_access_key": secrets.s3_secret_access_key,
            "models_url": parts.models.url,
            "models_api_key": secrets.models_api_key,
            "tokenizer": str(parts.models.tokenizer),
        }
    )


def _is_abandoned(folder: Path) -> bool:
    """Return whether no test process is left; if so, remove the file with the addresses."""
    with locked(folder / "start.lock"):
        for user in (folder / "users").iterdir():
            if is_locked(user):
                return False
            user.unlink()
        (folder / "servers.json").unlink()
        return True


def main() -> None:
    """Run the servers, unless another supervisor of the folder is running."""
    folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
    if try_lock(folder / "supervisor.lock") is not None:  # held until this process ends
        asyncio.run(run(folder, cache))


if __name__ == "__main__":
    main()
