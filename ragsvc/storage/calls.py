"""Metrics and spans of calls to the store: the time until the response headers arrive, and the outcome."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ragsvc.errors.requests import Overloaded
from ragsvc.errors.work import TransientFailure
from ragsvc.telemetry.metrics import S3_REQUEST_DURATION, S3_REQUESTS
from ragsvc.telemetry.spans import SpanKind
from ragsvc.telemetry.traces import start_span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from types_aiobotocore_s3.client import S3Client

    from ragsvc.shares import Shares

# Key under which the SDK's call context stores our StoreCall.
CALL = "ragsvc_call"
FIRST_CLIENT_ERROR = 400
FIRST_SERVER_ERROR = 500


class StoreCall:
    """A call in progress; `operation` is its name in the S3 API."""

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._started = time.perf_counter()
        self._span = start_span(
            f"S3/{operation}",
            SpanKind.CLIENT,
            {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": operation},
        )

    def end(self, status: int | None) -> None:
        """Record the call with the status of its response; None if there was no response."""
        outcome = _outcome_of(status)
        S3_REQUESTS.labels(self._operation, outcome).inc()
        S3_REQUEST_DURATION.labels(self._operation).observe(time.perf_counter() - self._started)
        if status is not None:
            self._span.set({"http.response.status_code": status})
        if outcome != "ok":
            self._span.fail(outcome)
        self._span.end()


@contextmanager
def calling(operation: str) -> Iterator[StoreCall]:
    """Record a call made without the SDK; an exception is recorded as a missing response."""
    call = StoreCall(operation)
    try:
        yield call
    except Exception:
        call.end(None)
        raise


def watch_calls(client: S3Client) -> None:
    """Record every call of the SDK's client, counting its internal retries as one call."""
    client.meta.events.register("before-call.s3", _begin)
    client.meta.events.register("after-call.s3", _end)
    client.meta.events.register("after-call-error.s3", _fail)


def share_calls(client: S3Client, connections: Shares) -> None:
    """Let the SDK's calls wait for one of the connections by turns of workspaces.

    The SDK itself waits in the order of the calls, and without a limit.
    """
    call = client._make_api_call  # type: ignore[attr-defined] # noqa: SLF001 - all calls pass through it

    async def call_in_turn(operation: str, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore has no types
        try:
            share = await connections.take()
        except Overloaded:
            raise TransientFailure("storage_busy", "too many calls wait for the object store") from None
        try:
            return await call(operation, parameters)
        finally:
            share.release()

    client._make_api_call = call_in_turn  # type: ignore[attr-defined] # noqa: SLF001


def _begin(model: Any, context: dict[str, Any], **_event: object) -> None:  # noqa: ANN401 - botocore has no types
    context[CALL] = StoreCall(model.name)


def _end(http_response: Any, context: dict[str, Any], **_event: object) -> None:  # noqa: ANN401 - botocore has no types
    if (call := context.pop(CALL, None)) is not None:
        call.end(http_response.status_code)


def _fail(context: dict[str, Any], **_event: object) -> None:
    if (call := context.pop(CALL, None)) is not None:
        call.end(None)


def _outcome_of(status: int | None) -> str:
    if status is None:
        return "unreachable"
    if status >= FIRST_SERVER_ERROR:
        return "server_error"
    return "client_error" if status >= FIRST_CLIENT_ERROR else "ok"
