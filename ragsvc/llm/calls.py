"""A call to the models, as operators see it: how long it took, how it ended, and what it cost."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from ragsvc.errors import WorkError
from ragsvc.telemetry.metrics import MODEL_FIRST_TOKEN, MODEL_REQUEST_DURATION, MODEL_REQUESTS, MODEL_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator

# As OpenTelemetry names them (gen_ai.operation.name).
Operation = Literal["chat", "embeddings"]


class ModelCall:
    """A call that goes on."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._started = time.perf_counter()

    def begin_to_answer(self) -> None:
        """Note that the first words have come."""
        MODEL_FIRST_TOKEN.observe(time.perf_counter() - self._started)

    def cost(self, *, input_tokens: int, output_tokens: int = 0) -> None:
        """Note what the provider counted."""
        MODEL_TOKENS.labels(self._operation, "input").inc(input_tokens)
        MODEL_TOKENS.labels(self._operation, "output").inc(output_tokens)

    def end(self, outcome: str) -> None:
        """Count the call."""
        MODEL_REQUESTS.labels(self._operation, outcome).inc()
        MODEL_REQUEST_DURATION.labels(self._operation).observe(time.perf_counter() - self._started)


@contextmanager
def calling(operation: Operation) -> Iterator[ModelCall]:
    """Count a call by how its body ends: `ok`, the code of its failure, or `cancelled` when nobody waits for it."""
    call = ModelCall(operation)
    outcome = "cancelled"
    try:
        yield call
        outcome = "ok"
    except WorkError as error:
        outcome = error.work_code
        raise
    finally:
        call.end(outcome)
