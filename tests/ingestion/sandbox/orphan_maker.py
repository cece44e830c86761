"""A worker process whose parser hangs; the sandbox tests start it as a program and kill it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ragsvc.ingestion.sandbox.pool import open_sandbox
from ragsvc.settings.settings import Settings


async def main(tokenizer: str, started: Path) -> None:
    """In a child process, run a task that never returns."""
    settings = Settings.of(
        {
            "database_url": "postgresql://127.0.0.1/none",
            "redis_url": "redis://127.0.0.1/0",
            "embedding_tokenizer": tokenizer,
            "ingestion_concurrency": 1,
        }
    )
    async with open_sandbox(settings) as sandbox:
        await sandbox.run("tests.ingestion.sandbox.hostile:spin", started=started)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
