"""Tracing. Until `configure_traces` enables it, spans are no-ops and OpenTelemetry is not imported.

Names and attributes follow OpenTelemetry's semantic conventions. Spans never contain the text of documents, questions
or answers, or the parameters of SQL statements.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ragsvc.errors.base import StartupRefused
from ragsvc.telemetry.spans import SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.settings.settings import Settings
    from ragsvc.telemetry.spans import Attributes, Span, Tracer

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class _NoSpan:
    """A no-op span, used while tracing is disabled."""

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, code: str) -> None: ...

    def end(self) -> None: ...


NO_SPAN = _NoSpan()
_tracer: Tracer | None = None


def configure_traces(settings: Settings, *, service: str) -> None:
    """Enable tracing if OTEL_TRACES_EXPORTER is set; the SDK reads its other variables (OTEL_…) itself.

    Raises:
        StartupRefused: the extra `ragsvc[otel]` is not installed.
    """
    if settings.telemetry.otel_traces_exporter == "none":
        return
    try:
        from ragsvc.telemetry.opentelemetry import open_tracer  # noqa: PLC0415 - optional dependency
    except ModuleNotFoundError as error:
        wanted = f"OTEL_TRACES_EXPORTER={settings.telemetry.otel_traces_exporter}"
        raise StartupRefused(f"{wanted} requires the extra `ragsvc[otel]`: {error.name} is missing") from error
    use_tracer(open_tracer(settings.telemetry.otel_traces_exporter, service=service))


def use_tracer(tracer: Tracer | None) -> None:
    """Use this tracer for all spans of the process; None disables tracing."""
    global _tracer  # noqa: PLW0603 - process-wide, like logging
    _tracer = tracer


def is_tracing() -> bool:
    """Return whether tracing is enabled."""
    return _tracer is not None


def start_span(name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None) -> Span:
    """Start a span without making it the current span; the caller must end it."""
    tracer = _tracer_for(kind)
    return NO_SPAN if tracer is None else tracer.start(name, kind, attributes or {}, parent=None)


@contextmanager
def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    *,
    parent: str | None = None,
) -> Iterator[Span]:
    """Trace the body as a span and make it the current span; an exception marks it as failed."""
    tracer = _tracer_for(kind)
    if tracer is None:
        yield NO_SPAN
        return
    begun = tracer.start(name, kind, attributes or {}, parent=parent)
    try:
        with tracer.entered(begun):
            yield begun
    except Exception as error:
        begun.fail(type(error).__name__)
        raise
    finally:
        begun.end()


def _tracer_for(kind: SpanKind) -> Tracer | None:
    """Return the tracer for a span of this kind: only requests and jobs can start a trace."""
    if _tracer is None or kind in {SpanKind.SERVER, SpanKind.CONSUMER}:
        return _tracer
    return _tracer if _tracer.traceparent() is not None else None


def record_span(name: str, attributes: Attributes, *, duration_s: float, code: str | None) -> None:
    """Record a call that just ended as a child of the current span."""
    if _tracer is not None:
        _tracer.record(name, attributes, duration_s=duration_s, code=code)


def current_traceparent() -> str | None:
    """Return the W3C traceparent of the current span, or None if there is no current span."""
    return None if _tracer is None else _tracer.traceparent()


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the trace id in a traceparent; None if it is malformed."""
    found = TRACEPARENT.fullmatch(traceparent or "")
    return found[1] if found else None
