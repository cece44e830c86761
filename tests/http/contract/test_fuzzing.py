"""Fuzzing from the OpenAPI document finds no difference between the document and the service."""

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
    """Run schemathesis on the whole API; return its exit code and output."""
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
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output.decode()


async def test_fuzzing_of_examples_and_coverage_finds_no_defect(own_client: Client) -> None:
    code, output = await fuzz(own_client, "--phases", "examples,coverage")
    print(output)  # noqa: T201 - shown with -rP
    assert code == 0, output


@pytest.mark.chaos
async def test_random_and_stateful_fuzzing_find_no_defect(own_client: Client) -> None:
    code, output = await fuzz(own_client, "--phases", "fuzzing,stateful", "--max-examples", "10")
    print(output)  # noqa: T201 - shown with -rP
    assert code == 0, output
