"""Everything that can go wrong, by code; which HTTP status a code has is not known here.

RagsvcError
├── StartupRefused            a process must not start like this
├── RequestError              what a caller asked cannot be done; nothing was stored
│   └── Unauthorized, Forbidden, NotFound, InvalidJson, InvalidRequest, EmptyFile, TooLarge, …
└── WorkError                 why a piece of work stopped; says whether trying again can help
    ├── DocumentRejected      permanent: what the content turned out to be
    ├── ProviderRejected      permanent: the model's or the store's refusal
    ├── TransientFailure      trying again can help
    ├── OutageFailure         a provider cannot be reached at all: waiting helps, and costs no attempt
    └── LeaseLost             another worker owns the job now
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


def describe_error(error: BaseException) -> str:
    """Return the message of an error, or the name of its type where it has none (a bare TimeoutError, for example)."""
    return str(error) or type(error).__name__


class RagsvcError(Exception):
    """The service could not do it."""

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").splitlines()[0]
        super().__init__(self.detail)


class StartupRefused(RagsvcError):
    """This process must not start."""

    code = "startup_refused"


class RequestError(RagsvcError):
    """The request cannot be served."""

    code = "bad_request"


class Unauthorized(RequestError):
    """The key is missing, unknown, expired or revoked."""

    code = "unauthorized"


class Forbidden(RequestError):
    """This key does not open this resource."""

    code = "forbidden"


class NotFound(RequestError):
    """There is no such resource."""

    code = "not_found"


class MethodNotAllowed(RequestError):
    """The resource does not take this method."""

    code = "method_not_allowed"


class InvalidJson(RequestError):
    """The body is not valid JSON."""

    code = "invalid_json"


class InvalidRequest(RequestError):
    """The request does not fit the contract."""

    code = "invalid_request"

    def __init__(self, detail: str | None = None, *, fields: dict[str, str] | None = None) -> None:
        self.fields = fields or {}
        super().__init__(detail or "; ".join(f"{name}: {message}" for name, message in self.fields.items()))


class UnsupportedMediaType(RequestError):
    """The body's content type is not taken here."""

    code = "unsupported_media_type"


class EmptyFile(RequestError):
    """The file is empty."""

    code = "empty_file"


class TooLarge(RequestError):
    """The body is larger than the limit."""

    code = "too_large"


class QuotaExceeded(RequestError):
    """The workspace's storage quota is used up."""

    code = "quota_exceeded"


class RangeNotSatisfiable(RequestError):
    """The file does not have these bytes."""

    code = "range_not_satisfiable"


class DocumentExists(RequestError):
    """This file is already a document of the collection."""

    code = "document_exists"


class NameTaken(RequestError):
    """The workspace has a collection of this name."""

    code = "name_taken"


class KeyRotated(RequestError):
    """The key has a successor: rotate that one."""

    code = "key_rotated"


class WebhookRefused(RequestError):
    """No webhook may point there."""

    code = "webhook_refused"


class TooManyWebhooks(RequestError):
    """The workspace has as many webhooks as it may have."""

    code = "too_many_webhooks"


class FileInUse(RequestError):
    """Documents still use the file."""

    code = "file_in_use"


class UploadNotPending(RequestError):
    """The upload takes no parts: it is being completed, or over."""

    code = "upload_not_pending"


class PartsMissing(RequestError):
    """Parts of the file are missing, or have another size than they should."""

    code = "parts_missing"

    def __init__(self, detail: str | None = None, *, missing: tuple[int, ...] = ()) -> None:
        self.missing = missing
        super().__init__(detail or f"{len(missing)} parts of the file are missing, or have another size.")


class PartNumberOutOfRange(RequestError):
    """The file has no part of this number."""

    code = "part_number_out_of_range"


class PartSizeMismatch(RequestError):
    """The part has another size than its place in the file asks for."""

    code = "part_size_mismatch"


class DigestMismatch(RequestError):
    """The bytes that arrived are not those that were announced."""

    code = "digest_mismatch"


class UploadGone(RequestError):
    """The upload was aborted, has expired or has failed."""

    code = "upload_gone"


class UploadLocked(RequestError):
    """Another request appends to this upload at the moment."""

    code = "upload_locked"


class OffsetConflict(RequestError):
    """The upload goes on at another offset."""

    code = "offset_conflict"


class ChecksumMismatch(RequestError):
    """The bytes of this request are not those that its checksum announces; none of them was kept."""

    code = "upload_checksum_mismatch"


class UnsupportedTusVersion(RequestError):
    """Only tus 1.0.0 is spoken here."""

    code = "unsupported_tus_version"


class IngestionActive(RequestError):
    """An ingestion of this document is queued or running."""

    code = "ingestion_active"


class DocumentDeleting(RequestError):
    """The document is being deleted."""

    code = "document_deleting"


class NoText(RequestError):
    """The document has no text yet."""

    code = "text_not_ready"


class RunActive(RequestError):
    """A run is going on in this session."""

    code = "run_active"


class IdempotencyMismatch(RequestError):
    """The Idempotency-Key came with another request before."""

    code = "idempotency_mismatch"


class InProgress(RequestError):
    """The request with this Idempotency-Key is still being answered."""

    code = "in_progress"


class RunNotRetryable(RequestError):
    """Only a failed, cancelled or interrupted run that is its session's last can be retried."""

    code = "run_not_retryable"


class TooManyStreams(RequestError):
    """Too many event streams are open."""

    code = "too_many_streams"


class RateLimited(RequestError):
    """This key asks more often than it may."""

    code = "rate_limited"


class UnknownHost(RequestError):
    """This server does not answer for the host that the request names."""

    code = "unknown_host"


class RequestTimeout(RequestError):
    """The request's body did not arrive in time."""

    code = "request_timeout"


class ReplayRunning(RequestError):
    """Another replay of this queue is running."""

    code = "replay_running"


class DefaultCollection(RequestError):
    """The default collection cannot be deleted: it takes what names no other."""

    code = "default_collection"


class ProviderRefused(RequestError):
    """The model or the store refused what this request needs."""

    code = "provider_refused"


class Unavailable(RequestError):
    """A part of the service that this request needs is away; try again soon."""

    code = "unavailable"


class Overloaded(RequestError):
    """This server has more to do than it can; ask again soon."""

    code = "overloaded"


class DocumentErrorCode(StrEnum):
    """Why a document could not be ingested."""

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
    DIMENSION_MISMATCH = "dimension_mismatch"
    CRASH_LOOP = "crash_loop"
    INTERNAL = "internal"


class WorkError(RagsvcError):
    """A piece of work stopped."""

    def __init__(
        self, code: str, detail: str, *, retry_after_s: float | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(detail)
        self.work_code = code
        self.retry_after_s = retry_after_s
        self.http_status = http_status

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way back from a parsing process."""
        return _rebuild, (type(self), self.work_code, self.detail, self.retry_after_s, self.http_status)


class DocumentRejected(WorkError):
    """The document's content cannot be ingested; trying again cannot help."""


class ProviderRejected(WorkError):
    """A provider refused the request; trying again cannot help."""


class TransientFailure(WorkError):
    """A provider failed for now; trying again can help."""


class OutageFailure(WorkError):
    """A provider cannot be reached; the work waits for it."""


class LeaseLost(WorkError):
    """The job is no longer this worker's: another took it over, or it was cancelled."""

    def __init__(self, detail: str = "the job is no longer this worker's") -> None:
        super().__init__("lease_lost", detail)


def _rebuild(
    kind: type[WorkError], code: str, detail: str, retry_after_s: float | None, http_status: int | None
) -> WorkError:
    return kind(code, detail, retry_after_s=retry_after_s, http_status=http_status)
