"""Plain arq, with a job that only waits: `arq tests.bench.queue.arq_worker.BenchSettings`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from arq.connections import RedisSettings
from arq.worker import func

from tests.bench.queue.journal import Journal

journal = Journal.of_environment()


async def wait(_ctx: dict[str, Any], number: int, wait_s: float) -> None:
    """Sleep, and record the start and the end in the journal."""
    journal.note("start", number)
    await asyncio.sleep(wait_s)
    journal.note("end", number)


class BenchSettings:
    """arq's defaults, except the benchmark's concurrency and Redis."""

    functions = (func(wait, name="wait"),)  # type: ignore[arg-type]  # arq's type allows only *args, but any parameters work
    queue_name = os.environ["BENCH_QUEUE"]
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    max_jobs = int(os.environ["INGESTION_CONCURRENCY"])
