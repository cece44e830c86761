"""Every metric of the service, by name: counted where the thing happens, told by `telemetry.exposition`.

A label has few values, all of them ours: route templates, queues, error codes, never ids, paths or models' names.
Gauges are raised and lowered, so that several processes that share a scrape (`serve --workers N`) add up.
"""

from __future__ import annotations

import os
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    values,
)

# Which of the processes of a `serve --workers N` this is; the one that follows a killed one goes on with its figures.
FLEET_SLOT = "RAGSVC_FLEET_SLOT"
if _slot := os.environ.get(FLEET_SLOT):
    values.ValueClass = values.MultiProcessValue(lambda: _slot)  # type: ignore[no-untyped-call]

# Not the library's global one: only what stands here is told.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WORK_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0)
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def _counter(name: str, documentation: str, *labels: str) -> Counter:
    return Counter(f"ragsvc_{name}", documentation, labels, registry=REGISTRY)


def _gauge(name: str, documentation: str, *labels: str) -> Gauge:
    return Gauge(f"ragsvc_{name}", documentation, labels, registry=REGISTRY, multiprocess_mode="livesum")


def _histogram(name: str, documentation: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"ragsvc_{name}", documentation, labels, registry=REGISTRY, buckets=buckets)


BUILD_INFO = Gauge(
    "ragsvc_build_info", "Version that runs.", ["version"], registry=REGISTRY, multiprocess_mode="livemax"
)
BUILD_INFO.labels(version("ragsvc")).set(1)

HTTP_REQUESTS = _counter("http_requests", "Answered requests.", "method", "route", "status")
HTTP_REQUEST_DURATION = _histogram(
    "http_request_duration_seconds", "Time to answer; without event streams.", "method", "route", buckets=CALL_S
)
HTTP_REQUESTS_IN_FLIGHT = _gauge("http_requests_in_flight", "Requests being answered, event streams included.")
REQUESTS_REFUSED = _counter("requests_refused", "Requests refused to protect the service, by the code.", "code")
CONNECTIONS_OPEN = _gauge("connections_open", "Connections of clients.")
CONNECTIONS_CUT = _counter("connections_cut", "Connections cut because their client was too slow, by what.", "by")
STREAMS_OPEN = _gauge("streams_open", "Event streams that are open.")
STREAMS = _counter("streams", "Event streams that ended, by why.", "end")

UPLOADS = _counter("uploads", "Uploads that ended.", "api", "outcome")
UPLOAD_BYTES = _counter("upload_bytes", "Bytes of files that were uploaded whole.", "api")

JOB_START_LATENCY = _histogram(
    "job_start_latency_seconds", "From when a job is due until a worker has it.", "queue", buckets=CALL_S
)
JOB_ATTEMPTS = _counter("job_attempts", "Attempts at jobs, by how they ended.", "queue", "outcome", "code")
JOB_DURATION = _histogram("job_duration_seconds", "Length of one attempt.", "queue", "outcome", buckets=WORK_S)
JOBS_RUNNING = _gauge("jobs_running", "Jobs that this process is at.", "queue")
JOB_RESCUES = _counter("job_rescues", "Jobs taken from workers that fell silent.", "queue")
JOBS_SWEPT = _counter("jobs_swept", "Due jobs whose ring was lost, rung for again.")
JOB_LEASES_LOST = _counter("job_leases_lost", "Jobs that a worker lost to another one or to a cancel.", "queue")
REPLAYS = _counter("dead_letter_replays", "Dead letters that were replayed.", "queue", "outcome")
NOTIFICATIONS = _counter("notifications", "Notifications sent to workers, by outcome.", "queue", "outcome")

INGESTION_STAGE_DURATION = _histogram(
    "ingestion_stage_duration_seconds", "Time in a stage of ingestion.", "stage", buckets=WORK_S
)
EMBEDDING_CHUNKS = _counter("embedding_chunks", "Chunks that got their vector, by where from.", "source")
EMBEDDING_BATCH = _histogram("embedding_batch_texts", "Texts of one embedding call.", buckets=BATCH)
EMBEDDING_RATE_WAIT = _histogram(
    "embedding_rate_wait_seconds", "Wait of an embedding call for the fleet's rate.", buckets=CALL_S
)

MODEL_REQUESTS = _counter("model_requests", "Calls to the models.", "operation", "outcome")
MODEL_REQUEST_DURATION = _histogram(
    "model_request_duration_seconds", "Length of a call to the models.", "operation", buckets=CALL_S
)
MODEL_FIRST_TOKEN = _histogram(
    "model_first_token_seconds", "From asking the chat model to its first words.", buckets=CALL_S
)
MODEL_TOKENS = _counter("model_tokens", "Tokens that the models counted.", "operation", "type")

RUNS = _counter("runs", "Answers that ended.", "outcome", "code")
RUNS_ACTIVE = _gauge("runs_active", "Answers being written by this process.")
RUN_FIRST_TOKEN = _histogram(
    "run_first_token_seconds", "From an accepted question to the first words of its answer.", buckets=CALL_S
)
RUN_DURATION = _histogram("run_duration_seconds", "Length of an answer.", "outcome", buckets=CALL_S)
CITATIONS = _counter("citations", "Citations, by whether they were verified.", "verified")
RETRIEVAL_DURATION = _histogram("retrieval_duration_seconds", "Time to find chunks.", "mode", buckets=QUICK_S)

DB_CONNECTIONS_IN_USE = _gauge("db_connections_in_use", "Pooled connections in use.")
DB_CONNECTIONS_MAX = _gauge("db_connections_max", "Pooled connections that there may be.")
DB_ACQUIRE_WAIT = _histogram("db_acquire_wait_seconds", "Wait for a pooled connection.", buckets=QUICK_S)

S3_REQUESTS = _counter("s3_requests", "Calls to the object store.", "operation", "outcome")
S3_REQUEST_DURATION = _histogram(
    "s3_request_duration_seconds", "Length of a call to the object store.", "operation", buckets=CALL_S
)

SWEEPER_CHORES = _counter("sweeper_chores", "Chores of the sweeper.", "chore", "outcome")
SWEEPER_CHORE_DURATION = _histogram("sweeper_chore_duration_seconds", "Length of a chore.", "chore", buckets=CALL_S)
ORPHANS_REMOVED = _counter("orphans_removed", "Objects and uploads in the store that no row knew.")
