"""Errors of requests that cannot be served, with their codes and their sentences for clients."""

from __future__ import annotations

from ragsvc.errors.base import RagsvcError


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
