"""What a span is, whoever it is told to."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    Attributes = Mapping[str, str | int | float | bool | Sequence[str]]


class SpanKind(StrEnum):
    """Which side of a call a span tells of."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """Something that takes a while."""

    def set(self, attributes: Attributes) -> None:
        """Add what is known of it by now."""

    def fail(self, code: str) -> None:
        """Mark it as failed, by a code that has few values."""

    def end(self) -> None:
        """Say that it is over."""


class Tracer(Protocol):
    """What spans are told to."""

    def start(self, name: str, kind: SpanKind, attributes: Attributes, *, parent: str | None) -> Span:
        """Begin a span under the current one, or under a traceparent."""

    def entered(self, span: Span) -> AbstractContextManager[object]:
        """Make a span the current one for as long as the body runs."""

    def record(self, name: str, attributes: Attributes, *, duration_s: float, code: str | None) -> None:
        """Tell of a call under the current span that ends now; without a current span, of nothing."""

    def traceparent(self) -> str | None:
        """Return the current span as W3C's traceparent says it."""
