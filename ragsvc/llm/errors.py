"""Translates errors of the model servers to those of `ragsvc.errors.work`: rejected, transient, or unreachable."""

from __future__ import annotations

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

import aiohttp
import openai

from ragsvc.errors.work import OutageFailure, ProviderRejected, TransientFailure, WorkError

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a model is used for; every code begins with it, as in `chat_unavailable`.
Purpose = Literal["embedding", "chat", "rerank"]
# The kind of failure. Embedding has fewer codes, because jobs only need to know how to go on.
Kind = Literal[
    "quota", "unauthorized", "model_not_found", "context_too_long", "rejected", "rate_limited", "timeout", "unavailable"
]
EMBEDDING_KINDS: dict[Kind, Kind] = {
    "context_too_long": "rejected",
    "rate_limited": "unavailable",
    "timeout": "unavailable",
}
# Failures of the account or of the settings, not of one text: every document would fail, so the queue pauses until an
# operator has corrected them.
EMBEDDING_OUTAGE_KINDS = frozenset[Kind]({"quota", "unauthorized", "model_not_found"})
TRANSIENT_KINDS = frozenset({"rate_limited", "timeout", "unavailable"})

KIND_OF_STATUS: dict[int, Kind] = {
    401: "unauthorized",
    402: "quota",
    403: "unauthorized",
    404: "model_not_found",
    408: "timeout",
    409: "unavailable",
    425: "unavailable",
    429: "rate_limited",
    504: "timeout",
}
KIND_OF_CODE: dict[str, Kind] = {
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "context_length_exceeded": "context_too_long",
    "model_not_found": "model_not_found",
    "rate_limit_exceeded": "rate_limited",
}
FIRST_SERVER_ERROR = 500
MAX_DETAIL_CHARS = 300
# Upper bound for a server's Retry-After: a wrong one must not keep a document waiting for months.
MAX_RETRY_AFTER_S = 3600.0
NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# Phrases with which servers without the code `context_length_exceeded` report that a prompt is too long.
_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|maximum context|(?:prompt|input) is too long|too many (?:input )?tokens",
    re.IGNORECASE,
)


def translate(error: openai.OpenAIError, *, purpose: Purpose) -> WorkError:
    """Return the WorkError for an error of the SDK."""
    if isinstance(error, openai.APIStatusError):
        return _translate_status(error, purpose=purpose)
    cause = _cause_of(error)
    if isinstance(cause, NEVER_CONNECTED):
        return OutageFailure(f"{purpose}_unreachable", f"The {purpose} model's server cannot be reached")
    if isinstance(cause, TimeoutError):
        return timed_out(purpose=purpose)
    # A lost connection, an unreadable response, or an error within a stream.
    kind = KIND_OF_CODE.get(error.code or "", "unavailable") if isinstance(error, openai.APIError) else "unavailable"
    return _fail(kind, f"The {purpose} model failed: {_shorten(str(error))}", purpose=purpose)


def timed_out(*, purpose: Purpose) -> WorkError:
    """Return the failure of a model that did not respond in time."""
    return _fail("timeout", f"The {purpose} model did not respond in time", purpose=purpose)


def request_id_of(error: openai.OpenAIError) -> str | None:
    """Return the provider's id of the failed request, if known."""
    return error.request_id if isinstance(error, openai.APIStatusError) else None


def _cause_of(error: openai.OpenAIError) -> BaseException | None:
    # The transport reports every lost connection as a connect timeout; the real error is the cause of that error.
    transport_error = error.__cause__
    return transport_error.__cause__ if transport_error is not None else None


def _translate_status(error: openai.APIStatusError, *, purpose: Purpose) -> WorkError:
    status = error.status_code
    kind = _kind_of(error)
    match kind:
        case "quota":
            detail = f"The {purpose} model's quota is used up"
        case "unauthorized":
            # The provider's message would repeat a part of the key.
            detail = f"The {purpose} model refused the service's credentials"
        case _ if kind in TRANSIENT_KINDS:
            detail = f"The {purpose} model responded with {status}: {_quote(error)}"
        case _:
            detail = f"The {purpose} model refused the request: {_quote(error)}"
    return _fail(
        kind, detail, purpose=purpose, retry_after_s=_read_retry_after(error.response.headers), http_status=status
    )


def _kind_of(error: openai.APIStatusError) -> Kind:
    status = error.status_code
    if error.code in KIND_OF_CODE and status < FIRST_SERVER_ERROR:
        return KIND_OF_CODE[error.code]
    if status in KIND_OF_STATUS:
        return KIND_OF_STATUS[status]
    if status >= FIRST_SERVER_ERROR:
        return "unavailable"
    return "context_too_long" if _TOO_LONG.search(_quote(error)) else "rejected"


def _fail(
    kind: Kind, detail: str, *, purpose: Purpose, retry_after_s: float | None = None, http_status: int | None = None
) -> WorkError:
    code = f"{purpose}_{EMBEDDING_KINDS.get(kind, kind) if purpose == 'embedding' else kind}"
    if purpose == "embedding" and kind in EMBEDDING_OUTAGE_KINDS:
        return OutageFailure(code, detail, http_status=http_status)
    if kind in TRANSIENT_KINDS:
        return TransientFailure(code, detail, retry_after_s=retry_after_s, http_status=http_status)
    return ProviderRejected(code, detail, http_status=http_status)


def _read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, which the server can give as milliseconds, seconds or a date."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return _bound(float(milliseconds) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return _bound(float(value))
        return _bound(parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _bound(seconds: float) -> float | None:
    """Return a delay of 0 to MAX_RETRY_AFTER_S; None if it is no number."""
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _quote(error: openai.APIError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return _shorten(message if isinstance(message, str) else error.message)


def _shorten(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= MAX_DETAIL_CHARS else one_line[: MAX_DETAIL_CHARS - 1] + "…"
