"""Maps error codes to HTTP statuses, and renders errors as problem+json (RFC 9457)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from ragsvc.domain.ids import new_id
from ragsvc.errors.requests import AnswerFailed, InvalidRequest, PartsMissing, RequestError

if TYPE_CHECKING:
    import asyncio

    from ragsvc.errors.base import RagsvcError


@dataclass(frozen=True, slots=True)
class Problem:
    """The HTTP status and title of an error code."""

    status: int
    title: str


PROBLEMS = {
    "bad_request": Problem(400, "Bad request"),
    "digest_mismatch": Problem(400, "Digest mismatch"),
    "part_size_mismatch": Problem(400, "Part size mismatch"),
    "invalid_json": Problem(400, "Malformed JSON"),
    "unauthorized": Problem(401, "Unauthorized"),
    "forbidden": Problem(403, "Forbidden"),
    "not_found": Problem(404, "Not found"),
    "method_not_allowed": Problem(405, "Method not allowed"),
    "request_timeout": Problem(408, "Request timeout"),
    "default_collection": Problem(409, "Default collection"),
    "deletion_not_discardable": Problem(409, "Deletion cannot be discarded"),
    "document_deleting": Problem(409, "Document is being deleted"),
    "document_exists": Problem(409, "Document exists"),
    "file_in_use": Problem(409, "File in use"),
    "in_progress": Problem(409, "In progress"),
    "ingestion_active": Problem(409, "Ingestion active"),
    "key_rotated": Problem(409, "Key is rotated"),
    "name_taken": Problem(409, "Name taken"),
    "no_replacement": Problem(409, "No replacement"),
    "offset_conflict": Problem(409, "Offset conflict"),
    "parts_missing": Problem(409, "Parts missing"),
    "replay_running": Problem(409, "Replay running"),
    "run_active": Problem(409, "Run active"),
    "run_not_retryable": Problem(409, "Run cannot be retried"),
    "text_not_ready": Problem(409, "Text not ready"),
    "too_many_webhooks": Problem(409, "Too many webhooks"),
    "upload_not_pending": Problem(409, "Upload not pending"),
    "upload_gone": Problem(410, "Upload gone"),
    "unsupported_tus_version": Problem(412, "Unsupported tus version"),
    "too_large": Problem(413, "Too large"),
    "quota_exceeded": Problem(413, "Quota exceeded"),
    "unsupported_media_type": Problem(415, "Unsupported media type"),
    "range_not_satisfiable": Problem(416, "Range not satisfiable"),
    "unknown_host": Problem(421, "Unknown host"),
    "empty_file": Problem(422, "Empty file"),
    "idempotency_mismatch": Problem(422, "Another request had this Idempotency-Key"),
    "invalid_request": Problem(422, "Invalid request"),
    "part_number_out_of_range": Problem(422, "Part number out of range"),
    "webhook_refused": Problem(422, "Webhook refused"),
    "upload_locked": Problem(423, "Upload locked"),
    "rate_limited": Problem(429, "Rate limited"),
    "too_many_runs": Problem(429, "Too many runs"),
    "too_many_streams": Problem(429, "Too many streams"),
    # Non-standard; defined by tus.
    "upload_checksum_mismatch": Problem(460, "Checksum mismatch"),
    "internal": Problem(500, "Internal error"),
    "answer_failed": Problem(502, "Answer failed"),
    "provider_refused": Problem(502, "Refused by a provider"),
    "overloaded": Problem(503, "Overloaded"),
    "unavailable": Problem(503, "Unavailable"),
}

# `rate_limited` is not listed: its Retry-After depends on the key's rate.
RETRY_AFTER_S = {
    "in_progress": 1,
    "too_many_runs": 5,
    "too_many_streams": 5,
    "overloaded": 2,
    "unavailable": 5,
    "upload_locked": 1,
}


class FieldError(TypedDict):
    """One invalid field of a request."""

    field: str
    message: str


class ProblemView(TypedDict):
    """An error (RFC 9457, `application/problem+json`)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: NotRequired[list[FieldError]]
    missing: NotRequired[list[int]]
    run_id: NotRequired[str]
    run_error: NotRequired[dict[str, object]]


def render_problem(error: RagsvcError, *, request_id: str) -> ProblemView:
    """Return the response body for an error."""
    problem = PROBLEMS[error.code]
    view: ProblemView = {
        "type": f"/docs#{error.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": _writable(error.detail),
        "code": error.code,
        "request_id": request_id,
    }
    if isinstance(error, InvalidRequest):
        view["errors"] = [
            {"field": _writable(name), "message": _writable(message)} for name, message in error.fields.items()
        ]
    if isinstance(error, PartsMissing):
        view["missing"] = list(error.missing)
    if isinstance(error, AnswerFailed):
        view |= {"run_id": error.run_id, "run_error": error.error}
    return view


def _writable(text: str) -> str:
    """Replace characters that UTF-8 cannot encode, because messages can quote undecodable bytes of the request."""
    return text.encode("utf-8", "replace").decode()


def problem_response(error: RagsvcError, *, request_id: str) -> web.Response:
    """Return the response for an error."""
    view = render_problem(error, request_id=request_id)
    response = web.Response(
        body=orjson.dumps(view), status=view["status"], content_type="application/problem+json", charset=None
    )
    response.headers["Cache-Control"] = "no-store"
    if error.code in RETRY_AFTER_S:
        response.headers["Retry-After"] = str(RETRY_AFTER_S[error.code])
    if error.code == "unauthorized":
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def write_problem(transport: asyncio.Transport, error: RagsvcError) -> None:
    """Write the response to an error that occurred outside of a request; the caller closes the connection."""
    request_id = f"req_{new_id().hex}"
    response = problem_response(error, request_id=request_id)
    body = bytes(response.body or b"")  # type: ignore[arg-type]
    headers = {
        **response.headers,
        "Content-Length": str(len(body)),
        "X-Request-Id": request_id,
        "Connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    transport.write(f"HTTP/1.1 {response.status} {response.reason}\r\n{head}\r\n".encode() + body)


# Codes for the statuses that aiohttp itself raises; any other status becomes a `bad_request`.
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


def error_of_status(status: int) -> RequestError:
    """Return the error for a status that aiohttp raised."""
    code = _BY_STATUS.get(status, "bad_request")
    return next(kind for kind in request_errors() if kind.code == code)()


def request_errors() -> list[type[RequestError]]:
    """Return every class of error that a client can receive."""
    kinds: list[type[RequestError]] = [RequestError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return kinds
