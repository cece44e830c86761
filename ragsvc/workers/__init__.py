"""The workers, as arq starts them: `arq ragsvc.workers.IngestionSettings`, `arq ragsvc.workers.DeletionSettings`.

arq reads a settings class's own `__dict__` alone, so every attribute is written out in each class.
"""

from __future__ import annotations

from typing import ClassVar

import arq.worker
from arq.worker import func

from ragsvc.models import Queue
from ragsvc.queue.bell import JOB_FUNCTIONS
from ragsvc.queue.connection import BODY_TTL_MS, deserialize, queue_name, redis_settings, serialize
from ragsvc.settings import load_settings
from ragsvc.workers import deletion, ingestion, runner
from ragsvc.workers.wake import WakeWorker

# The `arq` command looks its Worker up when it is called, so the plain command gets ours. A test keeps watch.
arq.worker.Worker = WakeWorker  # type: ignore[misc]

settings = load_settings()

# Time-outs and retries are ours (jobs/): arq's are set where they never strike.
NEVER_S = 24 * 3600
NEVER_TRIES = 1_000_000


class IngestionSettings:
    """Downloads, parses, chunks, embeds and indexes documents."""

    functions: ClassVar = [func(ingestion.ingest_document, name=JOB_FUNCTIONS[Queue.INGESTION])]
    queue_name: ClassVar = queue_name(settings, Queue.INGESTION)
    max_jobs: ClassVar = settings.ingestion_concurrency
    redis_settings: ClassVar = redis_settings(settings)
    on_startup: ClassVar = ingestion.start
    on_shutdown: ClassVar = runner.stop
    ctx: ClassVar = {"settings": settings}
    job_timeout: ClassVar = NEVER_S
    max_tries: ClassVar = NEVER_TRIES
    keep_result: ClassVar = 0
    poll_delay: ClassVar = 0
    queue_read_limit: ClassVar = max(1000, 4 * settings.ingestion_concurrency)
    job_serializer: ClassVar = serialize
    job_deserializer: ClassVar = deserialize
    expires_extra_ms: ClassVar = BODY_TTL_MS
    log_results: ClassVar = False


class DeletionSettings:
    """Removes documents, collections and workspaces, and writes the receipts."""

    functions: ClassVar = [func(deletion.delete_subject, name=JOB_FUNCTIONS[Queue.DELETION])]
    queue_name: ClassVar = queue_name(settings, Queue.DELETION)
    max_jobs: ClassVar = settings.deletion_concurrency
    redis_settings: ClassVar = redis_settings(settings)
    on_startup: ClassVar = deletion.start
    on_shutdown: ClassVar = runner.stop
    ctx: ClassVar = {"settings": settings}
    job_timeout: ClassVar = NEVER_S
    max_tries: ClassVar = NEVER_TRIES
    keep_result: ClassVar = 0
    poll_delay: ClassVar = 0
    queue_read_limit: ClassVar = max(1000, 4 * settings.deletion_concurrency)
    job_serializer: ClassVar = serialize
    job_deserializer: ClassVar = deserialize
    expires_extra_ms: ClassVar = BODY_TTL_MS
    log_results: ClassVar = False
