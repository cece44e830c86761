"""The retry policy of jobs: tables from exceptions to classes of failures, and the decision to retry."""

from __future__ import annotations

import errno
import random
import traceback
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from ragsvc.db.connections.pool import is_transient
from ragsvc.domain.ids import format_id
from ragsvc.domain.jobs import Fault
from ragsvc.errors.base import describe_error
from ragsvc.errors.work import (
    DocumentErrorCode,
    DocumentRejected,
    OutageFailure,
    ProviderRejected,
    TransientFailure,
    WorkError,
)
from ragsvc.queue.connection import is_redis_away
from ragsvc.telemetry.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from ragsvc.domain.jobs import Job, Outage
    from ragsvc.settings.settings import Settings

TRACEBACK_MAX_BYTES = 8192
# An unexpected error is probably a bug, so many retries would not help.
UNKNOWN_MAX_ATTEMPTS = 3
# Longest delay before a job is retried once the provider is back.
OUTAGE_BACKOFF_CAP_S = 15.0


class FailureClass(StrEnum):
    """How a failure is treated."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    OUTAGE = "outage"


class Provider(StrEnum):
    """A provider whose outage pauses a queue; its value is the prefix of its error codes."""

    EMBEDDING = "embedding"
    STORAGE = "storage"

    @classmethod
    def of_code(cls, code: str) -> Provider:
        """Return the provider that an error code names.

        Raises:
            ValueError: the code names no provider.
        """
        return cls(code.partition("_")[0])


# Failures that only the owner of the document or of the webhook can fix.
OWNER_FAULTS = frozenset[str](
    {
        DocumentErrorCode.EMPTY_FILE,
        DocumentErrorCode.UNSUPPORTED_TYPE,
        DocumentErrorCode.ENCRYPTED,
        DocumentErrorCode.CORRUPT,
        DocumentErrorCode.LIMIT_EXCEEDED,
        DocumentErrorCode.NO_TEXT,
        DocumentErrorCode.ENCODING,
        DocumentErrorCode.CHECKSUM_MISMATCH,
        "webhook_gone",
        "webhook_failed",
        "webhook_unreachable",
        "webhook_refused",
    }
)

# errnos that mean this worker is out of disk, memory or file descriptors.
EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})

WORK_ERROR_KINDS: dict[type[WorkError], FailureClass] = {
    DocumentRejected: FailureClass.PERMANENT,
    ProviderRejected: FailureClass.PERMANENT,
    TransientFailure: FailureClass.TRANSIENT,
    OutageFailure: FailureClass.OUTAGE,
}

# Exceptions that no adapter translates; the first match wins. TimeoutError comes first because it is an OSError.
DRIVER_ERROR_KINDS: tuple[tuple[Callable[[BaseException], bool], FailureClass, str], ...] = (
    (lambda error: isinstance(error, TimeoutError), FailureClass.TRANSIENT, "timeout"),
    (is_redis_away, FailureClass.OUTAGE, "redis_unavailable"),
    (
        lambda error: isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in EXHAUSTED),
        FailureClass.TRANSIENT,
        "worker_exhausted",
    ),
    (is_transient, FailureClass.TRANSIENT, "database_unavailable"),
)

# What tenants are told about them.
SENTENCES = {
    "timeout": "A call took too long.",
    "redis_unavailable": "Redis could not be reached.",
    "worker_exhausted": "The worker ran out of disk space, memory or file descriptors.",
    "database_unavailable": "Postgres could not be reached.",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as it is stored and shown: bounded in size and without secrets."""

    kind: FailureClass
    code: str
    type: str
    message: str
    http_status: int | None
    retry_after_s: float | None
    traceback: str
    # Whether the message was written for tenants. The text of other exceptions could tell them how the service works.
    is_public: bool = True

    def message_for_tenants(self, job_id: UUID) -> str:
        """Return what tenants are told: the message, or a sentence about the code and the job's id."""
        if self.is_public:
            return self.message
        sentence = SENTENCES.get(self.code, "An unexpected error occurred.")
        return f"{sentence} An operator finds more under {format_id('job', job_id)}."

    def to_json(self, *, worker: str | None) -> dict[str, object]:
        """Return the error of a dead letter; `worker` is the one on which the job failed."""
        return {
            "class": self.kind,
            "code": self.code,
            "fault": fault_of(self.code),
            "type": self.type,
            "message": self.message,
            "http_status": self.http_status,
            "traceback": self.traceback,
            "worker": worker,
        }


@dataclass(frozen=True, slots=True)
class Retry:
    """The delay before the next attempt, and whether the failed attempt counts."""

    delay_s: float
    charged: bool


def classify(error: BaseException) -> Failure:
    """Classify an exception as a failure of its job."""
    kind, code = _kind_and_code(error)
    return Failure(
        kind=kind,
        code=code,
        type=type(error).__name__,
        message=redact(describe_error(error))[:2000],
        http_status=error.http_status if isinstance(error, WorkError) else None,
        retry_after_s=error.retry_after_s if isinstance(error, WorkError) else None,
        traceback=redact("".join(traceback.format_exception(error)))[-TRACEBACK_MAX_BYTES:],
        is_public=isinstance(error, WorkError),
    )


def fault_of(code: object) -> Fault:
    """Return who can fix a failure with this code."""
    return Fault.OWNER if code in OWNER_FAULTS else Fault.SERVICE


def crash_loop(job: Job) -> Failure:
    """Return the failure of a job whose workers repeatedly died without making progress."""
    return Failure(
        kind=FailureClass.PERMANENT,
        code=DocumentErrorCode.CRASH_LOOP,
        type="CrashLoop",
        message=f"{job.rescues} workers died on this job in the stage {job.stage or 'start'}",
        http_status=None,
        retry_after_s=None,
        traceback="",
    )


def provider_of(failure: Failure) -> Provider | None:
    """Return the provider that is failing temporarily, or None for any other failure."""
    if failure.kind not in {FailureClass.TRANSIENT, FailureClass.OUTAGE}:
        return None
    try:
        return Provider.of_code(failure.code)
    except ValueError:
        return None


def in_outage(failure: Failure, outage: Outage | None) -> Failure:
    """Return the failure, marked as part of the current outage if the same provider caused both."""
    provider = provider_of(failure)
    if outage is None or provider is None or provider is not Provider.of_code(outage.code):
        return failure
    return replace(failure, kind=FailureClass.OUTAGE)


def outage_expired(outage: Outage) -> Failure:
    """Return the failure of a job that has waited too long for an outage to end."""
    return Failure(
        kind=FailureClass.OUTAGE,
        code=outage.code,
        type="Outage",
        message=outage.reason,
        http_status=None,
        retry_after_s=None,
        traceback="",
    )


def decide(failure: Failure, job: Job, settings: Settings) -> Retry | None:
    """Return how to retry the job, or None if it becomes a dead letter."""
    match failure.kind:
        case FailureClass.PERMANENT:
            return None
        case FailureClass.OUTAGE:
            age_s = _age_s(job)
            if age_s > settings.jobs.outage_max_age_s:
                return None
            # Attempts are not counted here, so the delay grows with the job's age instead. The pause protects the
            # provider.
            cap_s = min(settings.jobs.backoff_cap_s, OUTAGE_BACKOFF_CAP_S)
            bound_s = min(cap_s, max(settings.jobs.backoff_base_s, age_s))
            return Retry(delay_s=bound_s * random.uniform(0.5, 1), charged=False)  # noqa: S311 - jitter
        case FailureClass.TRANSIENT | FailureClass.UNKNOWN:
            cap = job.max_attempts if failure.kind is FailureClass.TRANSIENT else UNKNOWN_MAX_ATTEMPTS
            if job.attempts >= min(cap, job.max_attempts):
                return None
            return Retry(delay_s=compute_backoff_s(failure, job, settings), charged=True)


def compute_backoff_s(failure: Failure, job: Job, settings: Settings) -> float:
    """Return a delay in seconds with full jitter, but at least the provider's Retry-After.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    exponent = min(job.attempts - 1, 32)
    bound_s = min(settings.jobs.backoff_cap_s, settings.jobs.backoff_base_s * 2**exponent)
    delay_s = random.uniform(0, bound_s)  # noqa: S311 - jitter
    return max(delay_s, failure.retry_after_s or 0)


def _kind_and_code(error: BaseException) -> tuple[FailureClass, str]:
    if isinstance(error, WorkError):
        for work_error, kind in WORK_ERROR_KINDS.items():
            if isinstance(error, work_error):
                return kind, error.work_code
    for matches, kind, code in DRIVER_ERROR_KINDS:
        if matches(error):
            return kind, code
    return FailureClass.UNKNOWN, DocumentErrorCode.INTERNAL


def _age_s(job: Job) -> float:
    """Return the seconds from the job's first failure to this attempt, both by Postgres's clock."""
    if job.first_failed_at is None or job.claimed_at is None:
        return 0.0
    return (job.claimed_at - job.first_failed_at).total_seconds()
