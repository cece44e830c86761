"""Traces: spans that cost nothing, and OpenTelemetry not even imported, until `configure_traces` is told to.

Names and attributes follow OpenTelemetry's semantic conventions. No span carries text of documents, questions or
answers, nor a parameter of a statement.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ragsvc.errors import StartupRefused
from ragsvc.telemetry.spans import SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.settings.settings import Settings
    from ragsvc.telemetry.spans import Attributes, Span, Tracer

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class _NoSpan:
    """Stands for every span while nothing is traced."""

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, code: str) -> None: ...

    def end(self) -> None: ...


NO_SPAN = _NoSpan()
_tracer: Tracer | None = None


def configure_traces(settings: Settings, *, service: str) -> None:
    """Trace from here on as OTEL_TRACES_EXPORTER says; the SDK reads its other variables (OTEL_…) by itself.

    Raises:
        StartupRefused: the extra `ragsvc[otel]` is not installed.
    """
    if settings.telemetry.otel_traces_exporter == "none":
        return
    try:
        from ragsvc.telemetry.opentelemetry import open_tracer  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        wanted = f"OTEL_TRACES_EXPORTER={settings.telemetry.otel_traces_exporter}"
        raise StartupRefused(f"{wanted} needs the extra `ragsvc[otel]`: {error.name} is missing") from error
    use_tracer(open_tracer(settings.telemetry.otel_traces_exporter, service=service))


def use_tracer(tracer: Tracer | None) -> None:
    """Tell all spans of this process to a tracer, or to nobody."""
    global _tracer  # noqa: PLW0603 - spans begin everywhere, as log lines do
    _tracer = tracer


def is_tracing() -> bool:
    """Tell whether spans are told to anybody."""
    return _tracer is not None


def start_span(name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None) -> Span:
    """Begin a span that does not become the current one; its caller ends it."""
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
    """Trace the body as a span, the current one meanwhile; what the body raises marks it as failed."""
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
    """Return who is told of a span of this kind: requests and jobs begin traces, all else only belongs to one."""
    if _tracer is None or kind in {SpanKind.SERVER, SpanKind.CONSUMER}:
        return _tracer
    return _tracer if _tracer.traceparent() is not None else None


def record_span(name: str, attributes: Attributes, *, duration_s: float, code: str | None) -> None:
    """Trace a call that was made under the current span and ends now."""
    if _tracer is not None:
        _tracer.record(name, attributes, duration_s=duration_s, code=code)


def current_traceparent() -> str | None:
    """Return the current span as W3C's traceparent says it; None without one."""
    return None if _tracer is None else _tracer.traceparent()


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the trace's id in a traceparent; None for what is not one."""
    found = TRACEPARENT.fullmatch(traceparent or "")
    return found[1] if found else None
