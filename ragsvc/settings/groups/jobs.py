"""Settings of workers and jobs."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ragsvc.settings.groups.base import Count, Group, Seconds


class JobGroup(Group):
    """Workers: concurrency, leases and retries."""

    ingestion_concurrency: Count = Field(4, description="Maximum concurrent ingestion jobs per worker process.")
    deletion_concurrency: Count = Field(4, description="Maximum concurrent deletion jobs per worker process.")
    job_lease_s: Seconds = Field(
        30.0,
        description="Seconds after which a job is taken over from an unresponsive worker."
        " Workers renew their leases three times within that period.",
    )
    job_timeout_s: Seconds = Field(1800.0, description="Longest time without progress in a job attempt, in seconds.")
    sweep_interval_s: Seconds = Field(5.0, description="Seconds between searches for lost jobs.")
    max_attempts: Count = Field(8, description="Failed attempts after which a job becomes a dead letter.")
    backoff_base_s: Seconds = Field(
        1.0,
        description="Longest delay before the first retry, in seconds; doubles with every retry. Delays are random.",
    )
    backoff_cap_s: Seconds = Field(300.0, description="Longest delay before any retry, in seconds.")
    outage_max_age_s: Seconds = Field(
        21600.0, description="Seconds for which failures caused by an unreachable provider do not count as attempts."
    )
    worker_alive_file: Path | None = Field(
        None,
        description="File that a worker touches and `ragsvc worker-alive` checks; one per worker. Unset: none.",
    )
    worker_grace_s: Seconds = Field(25.0, description="Seconds that a worker gets to hand back its jobs after SIGTERM.")
