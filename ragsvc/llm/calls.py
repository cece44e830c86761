"""Metrics and traces of model calls: duration, outcome and token usage."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from ragsvc.errors.work import WorkError
from ragsvc.telemetry.metrics import MODEL_FIRST_TOKEN, MODEL_REQUEST_DURATION, MODEL_REQUESTS, MODEL_TOKENS
from ragsvc.telemetry.spans import SpanKind
from ragsvc.telemetry.traces import start_span

if TYPE_CHECKING:
    from collections.abc import Iterator

# Connecting takes milliseconds or fails. Responses have their own limit, MODEL_TIMEOUT_S.
CONNECT_TIMEOUT_S = 5.0
# Values of OpenTelemetry's gen_ai.operation.name, except `rerank`, which is not defined there yet.
Operation = Literal["chat", "embeddings", "rerank"]


class ModelCall:
    """A call in progress."""

    def __init__(self, operation: Operation, model: str) -> None:
        self._operation = operation
        self._started = time.perf_counter()
        # Not made the current span, because a stream can be read in one task and closed in another.
        self._span = start_span(
            f"{operation} {model}",
            SpanKind.CLIENT,
            {"gen_ai.operation.name": operation, "gen_ai.provider.name": "openai", "gen_ai.request.model": model},
        )

    def record_first_token(self) -> None:
        """Record that the first text has arrived."""
        waited_s = time.perf_counter() - self._started
        MODEL_FIRST_TOKEN.observe(waited_s)
        self._span.set({"gen_ai.response.time_to_first_chunk": waited_s})

    def record_usage(self, *, input_tokens: int, output_tokens: int = 0) -> None:
        """Record the tokens that the provider counted."""
        MODEL_TOKENS.labels(self._operation, "input").inc(input_tokens)
        MODEL_TOKENS.labels(self._operation, "output").inc(output_tokens)
        self._span.set({"gen_ai.usage.input_tokens": input_tokens, "gen_ai.usage.output_tokens": output_tokens})

    def record_finish_reason(self, reason: str) -> None:
        """Record why the answer ended."""
        self._span.set({"gen_ai.response.finish_reasons": [reason]})

    def end(self, outcome: str) -> None:
        """Record the outcome and end the span."""
        MODEL_REQUESTS.labels(self._operation, outcome).inc()
        MODEL_REQUEST_DURATION.labels(self._operation).observe(time.perf_counter() - self._started)
        if outcome != "ok":
            self._span.fail(outcome)
        self._span.end()


@contextmanager
def calling(operation: Operation, *, model: str) -> Iterator[ModelCall]:
    """Record a call with the outcome of the `with` body: `ok`, a WorkError's code, or `cancelled` for anything else."""
    call = ModelCall(operation, model)
    outcome = "cancelled"
    try:
        yield call
        outcome = "ok"
    except WorkError as error:
        outcome = error.work_code
        raise
    finally:
        call.end(outcome)
