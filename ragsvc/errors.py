"""All errors of the service and their codes; `http.contract.problems` maps codes to HTTP statuses.

RagsvcError
├── StartupRefused            the configuration or environment does not permit this process to start
├── RequestError              a request cannot be served; nothing was stored
│   └── Unauthorized, Forbidden, NotFound, InvalidJson, InvalidRequest, EmptyFile, TooLarge, …
└── WorkError                 a job failed; the type says whether a retry can help
    ├── DocumentRejected      permanent: the content cannot be ingested
    ├── ProviderRejected      permanent: the model or the object store refused the request
    ├── TransientFailure      a retry can help
    ├── OutageFailure         a provider is unreachable: the job waits, and no attempt is counted
    ├── SubjectGone           the subject of the job was deleted: the job is cancelled
    └── LeaseLost             another worker has taken over the job
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


def describe_error(error: BaseException) -> str:
    """Return the message of an error, or the name of its type if it has none (a bare TimeoutError, for example)."""
    return str(error) or type(error).__name__


class RagsvcError(Exception):
    """The service failed to process the request."""

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").splitlines()[0]
        super().__init__(self.detail)


class StartupRefused(RagsvcError):
    """The process cannot start."""

    code = "startup_refused"


class RequestError(RagsvcError):
    """The request cannot be served."""

    code = "bad_request"


class Unauthorized(RequestError):
    """The API key is missing, unknown, expired or revoked."""

    code = "unauthorized"


class Forbidden(RequestError):
    """The API key is not allowed to use this resource."""

    code = "forbidden"


class NotFound(RequestError):
    """The resource does not exist."""

    code = "not_found"

    def __init__(self, detail: str | None = None, *, kind: str | None = None) -> None:
        if detail is None and kind is not None:
            detail = f"There is no {kind} with this id."
        self.is_specific = detail is not None
        super().__init__(detail)


class MethodNotAllowed(RequestError):
    """The resource does not support this method."""

    code = "method_not_allowed"


class InvalidJson(RequestError):
    """The body is not valid JSON."""

    code = "invalid_json"


class InvalidRequest(RequestError):
    """The request is not valid."""

    code = "invalid_request"

    def __init__(self, detail: str | None = None, *, fields: dict[str, str] | None = None) -> None:
        self.fields = fields or {}
        super().__init__(detail or "; ".join(f"{name}: {message}" for name, message in self.fields.items()))


class UnsupportedMediaType(RequestError):
    """The content type of the body is not supported here."""

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
    """The requested range is outside the file."""

    code = "range_not_satisfiable"


class DeletionNotDiscardable(RequestError):
    """A deletion cannot be discarded: it was acknowledged. Replay it, or send its DELETE request again."""

    code = "deletion_not_discardable"


class DocumentExists(RequestError):
    """The collection already has a document with this file."""

    code = "document_exists"


class NameTaken(RequestError):
    """The workspace already has a collection with this name."""

    code = "name_taken"


class KeyRotated(RequestError):
    """The key has already been rotated. Rotate its successor instead."""

    code = "key_rotated"


class WebhookRefused(RequestError):
    """The operator does not allow webhooks to this URL."""

    code = "webhook_refused"


class TooManyWebhooks(RequestError):
    """The workspace has reached its maximum number of webhooks."""

    code = "too_many_webhooks"


class FileInUse(RequestError):
    """The file is still used by documents."""

    code = "file_in_use"


class UploadNotPending(RequestError):
    """The upload accepts no more parts: it is being completed or has ended."""

    code = "upload_not_pending"


class PartsMissing(RequestError):
    """Parts of the file are missing or have the wrong size."""

    code = "parts_missing"

    def __init__(self, detail: str | None = None, *, missing: tuple[int, ...] = ()) -> None:
        self.missing = missing
        super().__init__(detail or f"{len(missing)} parts of the file are missing or have the wrong size.")


class PartNumberOutOfRange(RequestError):
    """The file has no part with this number."""

    code = "part_number_out_of_range"


class PartSizeMismatch(RequestError):
    """The part does not have the size required by its position in the file."""

    code = "part_size_mismatch"


class DigestMismatch(RequestError):
    """The received bytes do not match the declared digest."""

    code = "digest_mismatch"


class UploadGone(RequestError):
    """The upload was aborted, has expired or has failed."""

    code = "upload_gone"


class UploadLocked(RequestError):
    """Another request is currently appending to this upload."""

    code = "upload_locked"


class OffsetConflict(RequestError):
    """The offset does not match the current offset of the upload."""

    code = "offset_conflict"


class ChecksumMismatch(RequestError):
    """The bytes of this request do not match its checksum; none of them was stored."""

    code = "upload_checksum_mismatch"


class UnsupportedTusVersion(RequestError):
    """Only tus 1.0.0 is supported."""

    code = "unsupported_tus_version"


class IngestionActive(RequestError):
    """The document is already queued for ingestion or being ingested."""

    code = "ingestion_active"


class NoReplacement(RequestError):
    """The document has no replacement file to discard."""

    code = "no_replacement"


class DocumentDeleting(RequestError):
    """The document is being deleted."""

    code = "document_deleting"


class NoText(RequestError):
    """The document has no text yet."""

    code = "text_not_ready"


class RunActive(RequestError):
    """The session already has an active run."""

    code = "run_active"


class IdempotencyMismatch(RequestError):
    """The Idempotency-Key was already used with a different request."""

    code = "idempotency_mismatch"


class InProgress(RequestError):
    """The first request with this Idempotency-Key is still being processed."""

    code = "in_progress"


class RunNotRetryable(RequestError):
    """Only the last run of a session can be retried, and only if it failed, was cancelled or was interrupted."""

    code = "run_not_retryable"


class AnswerFailed(RequestError):
    """The answer failed. The problem has the run's id and error."""

    code = "answer_failed"

    def __init__(self, detail: str | None = None, *, run_id: str = "", error: dict[str, object] | None = None) -> None:
        self.run_id = run_id
        self.error = error or {"code": "internal", "message": detail or "", "retryable": True}
        super().__init__(detail)


class TooManyStreams(RequestError):
    """Too many event streams are open."""

    code = "too_many_streams"


class TooManyRuns(RequestError):
    """Too many answers are being generated. Retry when one of them has ended."""

    code = "too_many_runs"


class RateLimited(RequestError):
    """The API key has exceeded its request rate. Retry later."""

    code = "rate_limited"


class UnknownHost(RequestError):
    """This server does not serve the host named in the request."""

    code = "unknown_host"


class RequestTimeout(RequestError):
    """The body of the request did not arrive in time."""

    code = "request_timeout"


class ReplayRunning(RequestError):
    """Another replay of this queue is in progress."""

    code = "replay_running"


class DefaultCollection(RequestError):
    """The default collection cannot be deleted: it receives documents for which no collection is given."""

    code = "default_collection"


class ProviderRefused(RequestError):
    """The model or the object store refused a call that this request needs."""

    code = "provider_refused"


class Unavailable(RequestError):
    """A dependency of this request is unavailable. Retry later."""

    code = "unavailable"


class Overloaded(RequestError):
    """The server is overloaded. Retry later."""

    code = "overloaded"


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
