"""The workers, as arq starts them: `arq ragsvc.workers.IngestionSettings`, `arq ragsvc.workers.DeletionSettings`.

The classes are created on first access, so that importing this package reads no environment variables.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import arq.worker
from arq.version import VERSION

from ragsvc.domain.jobs import Queue
from ragsvc.errors.base import StartupRefused
from ragsvc.queue.cluster import move_arq_to_slot
from ragsvc.queue.connection import (
    BODY_TTL_MS,
    deserialize,
    open_worker_redis,
    queue_name,
    redis_settings,
    serialize,
)
from ragsvc.queue.notifier import JOB_FUNCTIONS
from ragsvc.settings.settings import load_settings
from ragsvc.workers import deletion, ingestion, runner
from ragsvc.workers.wake import WakeWorker

# The workers rely on details of this version of arq, which tests/workers/test_arq_canaries.py checks.
REQUIRED_ARQ = "0.28.0"
# ragsvc.jobs handles timeouts and retries, so arq's own limits are set so high that they never apply.
NEVER_S = 24 * 3600
NEVER_TRIES = 1_000_000
# arq reads only this many jobs from the head of the queue, so more jobs in progress would hide the ones behind them.
MIN_READ_LIMIT = 1000

# The `arq` command looks Worker up at call time, so this makes it use ours. A canary test checks it.
arq.worker.Worker = WakeWorker  # type: ignore[misc]


@cache
def __getattr__(name: str) -> type:
    match name:
        case "IngestionSettings":
            return _settings_class(name, Queue.INGESTION, ingestion.start, ingestion.ingest_document)
        case "DeletionSettings":
            return _settings_class(name, Queue.DELETION, deletion.start, deletion.delete_subject)
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _settings_class(name: str, queue: Queue, start: Any, function: Any) -> type:  # noqa: ANN401 - arq's protocols
    """Return a settings class that defines every attribute itself, because arq ignores inherited ones."""
    if VERSION != REQUIRED_ARQ:
        raise SystemExit(f"ragsvc: the workers require arq {REQUIRED_ARQ}, but {VERSION} is installed")
    try:
        settings = load_settings()
    except StartupRefused as refused:
        raise SystemExit(f"ragsvc: {refused.detail}") from None
    if settings.stores.redis_cluster:
        move_arq_to_slot(settings.stores.queue_prefix)
    concurrency = runner.concurrency(settings, queue)
    return type(
        name,
        (),
        {
            "functions": [arq.worker.func(function, name=JOB_FUNCTIONS[queue])],
            "queue_name": queue_name(settings, queue),
            "max_jobs": concurrency,
            "redis_settings": redis_settings(settings),
            "redis_pool": open_worker_redis(settings),
            "on_startup": start,
            "on_shutdown": runner.stop,
            "ctx": {"settings": settings},
            "job_timeout": NEVER_S,
            "max_tries": NEVER_TRIES,
            "keep_result": 0,
            "poll_delay": 0,
            "queue_read_limit": max(MIN_READ_LIMIT, 4 * concurrency),
            "job_serializer": serialize,
            "job_deserializer": deserialize,
            "expires_extra_ms": BODY_TTL_MS,
            "log_results": False,
        },
    )
