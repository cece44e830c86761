"""A fuzzer that knows the description finds nothing that the service does not do as described."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.http.conftest import make_tenant, operator_of

if TYPE_CHECKING:
    from tests.http.conftest import Client

CONFIG = Path(__file__).with_name("fuzzing.toml")
DEADLINE_S = 1800.0


async def fuzz(client: Client, *options: str) -> tuple[int, str]:
    """Let schemathesis loose on the whole API; return its exit code and what it says."""
    admin = operator_of(client)
    tenant = await make_tenant(client, admin, "fuzzed")
    token = (await tenant.api.post("/v1/upload-tokens", {})).json["token"]
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("st")), "--config-file", str(CONFIG), "run"),
        *(str(client.make_url("/openapi.json")), "--no-color", *options),
        env={**os.environ, "KEY": tenant.api.key or "", "ADMIN_KEY": admin.key or "", "UPLOAD_TOKEN": token},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            said, _nothing = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, said.decode()


async def test_a_fuzzer_finds_nothing(own_client: Client) -> None:
    code, said = await fuzz(own_client, "--phases", "examples,coverage")
    print(said)  # noqa: T201 - seen with -rP
    assert code == 0, said


@pytest.mark.chaos
async def test_a_fuzzer_finds_nothing_at_random_or_from_call_to_call(own_client: Client) -> None:
    code, said = await fuzz(own_client, "--phases", "fuzzing,stateful", "--max-examples", "10")
    print(said)  # noqa: T201 - seen with -rP
    assert code == 0, said
