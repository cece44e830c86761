"""The demo's stack when it fails to start."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from ragsvc.cli.demo_stack import open_stack
from ragsvc.cli.exits import CommandFailed


def test_a_failed_stack_leaves_only_its_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHUNK_MAX_TOKENS", "3")
    # The start fails sooner if the stack has no model server of its own.
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")

    async def start() -> None:
        async with open_stack():
            pytest.fail("it started with a wrong setting")

    with pytest.raises(CommandFailed, match=r"CHUNK_MAX_TOKENS.* \(the logs are kept in .+\)$") as failed:
        asyncio.run(start())
    where = re.search(r"kept in (.+)\)$", str(failed.value))
    assert where is not None
    left = Path(where[1])
    assert {entry.name for entry in left.iterdir()} == {"dev.log", "logs"}
    assert "CHUNK_MAX_TOKENS" in (left / "dev.log").read_text()
    assert "CHUNK_MAX_TOKENS" in (left / "logs" / "migrate.log").read_text()
    shutil.rmtree(left)
