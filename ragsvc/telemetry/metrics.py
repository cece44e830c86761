"""All metrics of the service, updated where the measured events happen and exported by `telemetry.exposition`.

Label values come from small fixed sets: route templates, queues, error codes; never ids, paths or model names. Gauges
are incremented and decremented, so that the values of processes sharing one scrape (`serve --workers N`) can be summed.
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

# Index of this process under `serve --workers N`; a process that replaces a killed one continues its counters.
FLEET_SLOT = "RAGSVC_FLEET_SLOT"
if _slot := os.environ.get(FLEET_SLOT):
    values.ValueClass = values.MultiProcessValue(lambda: _slot)  # type: ignore[no-untyped-call]

# Not prometheus_client's global registry: only metrics defined here are exported.
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
    "ragsvc_build_info",
    "Version of the running service; the value is always 1.",
    ["version"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
BUILD_INFO.labels(version("ragsvc")).set(1)

HTTP_REQUESTS = _counter(
    "http_requests", "Total HTTP requests, by method, route template and status code.", "method", "route", "status"
)
HTTP_REQUEST_DURATION = _histogram(
    "http_request_duration_seconds",
    "Duration of HTTP requests, excluding event streams.",
    "method",
    "route",
    buckets=CALL_S,
)
HTTP_REQUESTS_IN_FLIGHT = _gauge("http_requests_in_flight", "HTTP requests in progress, including event streams.")
REQUESTS_REFUSED = _counter("requests_refused", "Total requests refused to protect the service, by error code.", "code")
CONNECTIONS_OPEN = _gauge("connections_open", "Open client connections.")
CONNECTIONS_CUT = _counter(
    "connections_cut", "Total connections closed because the client was too slow, by reason.", "by"
)
SHARE_WAIT = _histogram(
    "share_wait_seconds", "Time that requests wait for their share of a pool.", "pool", buckets=CALL_S
)
SHARES_ENDED = _counter(
    "shares_ended", "Total shares taken back because their holder was the slowest of the largest workspace.", "pool"
)
SHARES_REFUSED = _counter("shares_refused", "Total requests refused because a pool was used up.", "pool")
STREAMS_OPEN = _gauge("streams_open", "Open event streams.")
STREAMS = _counter("streams", "Total event streams that ended, by reason.", "end")

UPLOADS = _counter("uploads", "Total finished uploads, by API and outcome.", "api", "outcome")
UPLOAD_BYTES = _counter("upload_bytes", "Total bytes of completed uploads, by API.", "api")

JOB_START_LATENCY = _histogram(
    "job_start_latency_seconds", "Time from when a job is due until a worker claims it.", "queue", buckets=CALL_S
)
JOB_ATTEMPTS = _counter("job_attempts", "Total job attempts, by outcome and error code.", "queue", "outcome", "code")
JOB_DURATION = _histogram("job_duration_seconds", "Duration of a job attempt.", "queue", "outcome", buckets=WORK_S)
JOBS_RUNNING = _gauge("jobs_running", "Jobs running in this process.", "queue")
JOB_RESCUES = _counter("job_rescues", "Total jobs taken over from workers whose lease expired.", "queue")
JOBS_SWEPT = _counter("jobs_swept", "Total overdue jobs whose lost notification was sent again.")
SWEEP_ITEMS_FAILED = _counter(
    "sweep_items_failed", "Total items that a sweep could not process and postponed, by kind.", "kind"
)
JOB_LEASES_LOST = _counter(
    "job_leases_lost", "Total attempts that lost their lease to another worker or to a cancellation.", "queue"
)
REPLAYS = _counter("dead_letter_replays", "Total replays of dead letters, by outcome.", "queue", "outcome")
NOTIFICATIONS = _counter("notifications", "Total notifications to workers, by outcome.", "queue", "outcome")

INGESTION_STAGE_DURATION = _histogram(
    "ingestion_stage_duration_seconds", "Duration of an ingestion stage.", "stage", buckets=WORK_S
)
EMBEDDING_CHUNKS = _counter(
    "embedding_chunks", "Total chunks embedded, by source of the vector (cache or model).", "source"
)
EMBEDDING_BATCH = _histogram("embedding_batch_texts", "Texts per embedding call.", buckets=BATCH)
EMBEDDING_RATE_WAIT = _histogram(
    "embedding_rate_wait_seconds",
    "Time that embedding calls wait for the rate limit shared by all processes.",
    buckets=CALL_S,
)

MODEL_REQUESTS = _counter("model_requests", "Total model calls, by operation and outcome.", "operation", "outcome")
MODEL_REQUEST_DURATION = _histogram(
    "model_request_duration_seconds", "Duration of a model call.", "operation", buckets=CALL_S
)
MODEL_FIRST_TOKEN = _histogram(
    "model_first_token_seconds", "Time from the request to the chat model until its first token.", buckets=CALL_S
)
MODEL_TOKENS = _counter(
    "model_tokens", "Total tokens reported by the models, by operation and type.", "operation", "type"
)

RUNS = _counter("runs", "Total finished chat runs, by outcome and error code.", "outcome", "code")
RUNS_ACTIVE = _gauge("runs_active", "Chat runs in progress in this process.")
RUN_FIRST_TOKEN = _histogram(
    "run_first_token_seconds", "Time from an accepted question until the first token of its answer.", buckets=CALL_S
)
RUN_DURATION = _histogram("run_duration_seconds", "Duration of a chat run.", "outcome", buckets=CALL_S)
CITATIONS = _counter(
    "citations",
    "Total citations in answers, by whether the quote was verified and by the verdict on its support.",
    "verified",
    "verdict",
)
RETRIEVAL_DURATION = _histogram(
    "retrieval_duration_seconds", "Duration of retrieval, by search mode.", "mode", buckets=QUICK_S
)

DB_CONNECTIONS_IN_USE = _gauge("db_connections_in_use", "Postgres connections in use.")
DB_CONNECTIONS_MAX = _gauge("db_connections_max", "Maximum size of the Postgres connection pool.")
DB_ACQUIRE_WAIT = _histogram(
    "db_acquire_wait_seconds", "Time spent waiting for a Postgres connection.", buckets=QUICK_S
)

S3_REQUESTS = _counter(
    "s3_requests", "Total requests to the object store, by operation and outcome.", "operation", "outcome"
)
S3_REQUEST_DURATION = _histogram(
    "s3_request_duration_seconds", "Duration of a request to the object store.", "operation", buckets=CALL_S
)

SWEEPER_CHORES = _counter("sweeper_chores", "Total sweeper chores, by chore and outcome.", "chore", "outcome")
SWEEPER_CHORE_DURATION = _histogram(
    "sweeper_chore_duration_seconds", "Duration of a sweeper chore.", "chore", buckets=CALL_S
)
ORPHANS_REMOVED = _counter(
    "orphans_removed", "Total orphaned objects and multipart uploads removed from the object store."
)
