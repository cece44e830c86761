"""What the models' server did, in the terms of errors.py: refused, failed for now, or out of reach."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx2
import openai

from ragsvc.errors import OutageFailure, ProviderRejected, TransientFailure, WorkError

# What is asked of the server; it begins every code, as in `chat_unavailable`.
Ask = Literal["embedding", "chat"]

TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
FIRST_SERVER_ERROR = 500
PAYMENT_REQUIRED = 402
CREDENTIALS_REFUSED = frozenset({401, 403})
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
MAX_DETAIL_CHARS = 300
NEVER_CONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout)


def translate(error: openai.OpenAIError, *, ask: Ask) -> WorkError:
    """Return the failure that an error of the client stands for."""
    if isinstance(error, openai.APIStatusError):
        return _translate_status(error, ask=ask)
    if isinstance(error.__cause__, NEVER_CONNECTED):
        return OutageFailure(f"{ask}_unreachable", f"The {ask} model's server cannot be reached")
    if isinstance(error, openai.APITimeoutError):
        return timed_out(ask=ask)
    # A lost connection, an answer that cannot be read, or an error in the middle of a stream.
    return TransientFailure(f"{ask}_unavailable", f"The {ask} model failed: {_shorten(str(error))}")


def timed_out(*, ask: Ask) -> TransientFailure:
    """Return the failure of a model that kept silent for too long."""
    return TransientFailure(f"{ask}_unavailable", f"The {ask} model did not answer in time")


def _translate_status(error: openai.APIStatusError, *, ask: Ask) -> WorkError:
    status = error.status_code
    if status == PAYMENT_REQUIRED or error.code in QUOTA_CODES:
        return ProviderRejected(f"{ask}_quota", f"The {ask} model's quota is used up", http_status=status)
    if status in TRANSIENT_STATUSES or status >= FIRST_SERVER_ERROR:
        return TransientFailure(
            f"{ask}_unavailable",
            f"The {ask} model answered {status}: {_quote(error)}",
            retry_after_s=_read_retry_after(error.response.headers),
            http_status=status,
        )
    # The text of such a refusal repeats a part of the key.
    detail = "the service's credentials" if status in CREDENTIALS_REFUSED else f"the request: {_quote(error)}"
    return ProviderRejected(f"{ask}_rejected", f"The {ask} model refused {detail}", http_status=status)


def _read_retry_after(headers: httpx2.Headers) -> float | None:
    """Return the seconds that the server asks to wait, given as milliseconds, seconds or a date."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _quote(error: openai.APIError) -> str:
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return _shorten(said if isinstance(said, str) else error.message)


def _shorten(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= MAX_DETAIL_CHARS else one_line[: MAX_DETAIL_CHARS - 1] + "…"
