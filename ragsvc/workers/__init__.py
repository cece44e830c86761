"""The workers, as arq starts them: `arq ragsvc.workers.IngestionSettings`, `arq ragsvc.workers.DeletionSettings`.

The classes are made when arq asks for them, so that importing a module of this package needs no environment.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import arq.worker
from arq.version import VERSION

from ragsvc.domain.jobs import Queue
from ragsvc.errors import StartupRefused
from ragsvc.queue.cluster import keep_arq_in_one_slot
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

# What arq loses, and how that is covered, was studied with this one (tests/workers/test_arq_canaries.py).
STUDIED_ARQ = "0.28.0"
# Time-outs and retries are ours (jobs/): arq's are set where they never strike.
NEVER_S = 24 * 3600
NEVER_TRIES = 1_000_000
# With more jobs than this in progress at the head of the queue, arq would not see the ones behind them.
MIN_READ_LIMIT = 1000

# The `arq` command looks its Worker up when it is called, so the plain command gets ours. A test keeps watch.
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
    """Return a settings class with every attribute of its own: arq reads no inherited one."""
    if VERSION != STUDIED_ARQ:
        raise SystemExit(f"ragsvc: arq {VERSION} is not the one that the workers were tried with: {STUDIED_ARQ}")
    try:
        settings = load_settings()
    except StartupRefused as refused:
        raise SystemExit(f"ragsvc: {refused.detail}") from None
    if settings.stores.redis_cluster:
        keep_arq_in_one_slot(settings.stores.queue_prefix)
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
