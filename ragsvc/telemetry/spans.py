"""Protocols of spans and tracers, independent of OpenTelemetry."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    Attributes = Mapping[str, str | int | float | bool | Sequence[str]]


class SpanKind(StrEnum):
    """The role of a span in a call or message."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """A timed operation."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, code: str) -> None:
        """Mark the span as failed with a low-cardinality code."""

    def end(self) -> None:
        """End the span."""


class Tracer(Protocol):
    """Creates spans."""

    def start(self, name: str, kind: SpanKind, attributes: Attributes, *, parent: str | None) -> Span:
        """Start a child of the current span, or of a traceparent."""

    def entered(self, span: Span) -> AbstractContextManager[object]:
        """Make a span the current span while the context is entered."""

    def record(self, name: str, attributes: Attributes, *, duration_s: float, code: str | None) -> None:
        """Record a call that just ended as a child of the current span; without a current span, do nothing."""

    def traceparent(self) -> str | None:
        """Return the W3C traceparent of the current span, or None if there is no current span."""
