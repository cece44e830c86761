"""Errors of jobs; the type says whether a retry can help."""

from __future__ import annotations

from enum import StrEnum

from ragsvc.errors.base import RagsvcError


class DocumentErrorCode(StrEnum):
    """Codes for the reasons why a document could not be ingested."""

    EMPTY_FILE = "empty_file"
    UNSUPPORTED_TYPE = "unsupported_type"
    ENCRYPTED = "encrypted"
    CORRUPT = "corrupt"
    LIMIT_EXCEEDED = "limit_exceeded"
    NO_TEXT = "no_text"
    ENCODING = "encoding"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    OBJECT_MISSING = "object_missing"
    PARSER_CRASH = "parser_crash"
    PARSER_TIMEOUT = "parser_timeout"
    EMBEDDING_REJECTED = "embedding_rejected"
    EMBEDDING_QUOTA = "embedding_quota"
    EMBEDDING_UNAUTHORIZED = "embedding_unauthorized"
    EMBEDDING_MODEL_NOT_FOUND = "embedding_model_not_found"
    DIMENSION_MISMATCH = "dimension_mismatch"
    CRASH_LOOP = "crash_loop"
    INTERNAL = "internal"


class WorkError(RagsvcError):
    """A job failed."""

    def __init__(
        self, code: str, detail: str, *, retry_after_s: float | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(detail)
        self.work_code = code
        self.retry_after_s = retry_after_s
        self.http_status = http_status

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickling, which parsing processes use to return errors."""
        return _rebuild, (type(self), self.work_code, self.detail, self.retry_after_s, self.http_status)


class DocumentRejected(WorkError):
    """The document's content cannot be ingested; a retry cannot help."""


class ProviderRejected(WorkError):
    """A provider refused the request; a retry cannot help."""


class TransientFailure(WorkError):
    """A provider failed temporarily; a retry can help."""


class OutageFailure(WorkError):
    """A provider is unreachable, or refuses every request of the service; the job waits until that has changed."""


class SubjectGone(WorkError):
    """The subject of the job was deleted or is being deleted; the job is cancelled."""

    def __init__(self, detail: str) -> None:
        super().__init__("subject_gone", detail)


class LeaseLost(WorkError):
    """The worker lost the lease of its job: another worker took it over, or it was cancelled."""

    def __init__(self, detail: str = "the worker lost the lease of this job") -> None:
        super().__init__("lease_lost", detail)


def _rebuild(
    kind: type[WorkError], code: str, detail: str, retry_after_s: float | None, http_status: int | None
) -> WorkError:
    return kind(code, detail, retry_after_s=retry_after_s, http_status=http_status)
