"""Exports spans through the OpenTelemetry SDK; imported only by `traces`, and only if tracing is enabled."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from ragsvc.telemetry.spans import Attributes, Span, SpanKind

NANOSECONDS = 1e9

_propagator = TraceContextTextMapPropagator()


class OpenTelemetrySpan:
    """A span of the OpenTelemetry SDK."""

    def __init__(self, span: trace.Span) -> None:
        self.wrapped = span

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""
        self.wrapped.set_attributes(attributes)

    def fail(self, code: str) -> None:
        """Mark the span as failed."""
        self.wrapped.set_attribute("error.type", code)
        self.wrapped.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """End the span now."""
        self.wrapped.end()


class OpenTelemetryTracer:
    """Creates spans with a tracer provider of the SDK."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("ragsvc")

    def start(self, name: str, kind: SpanKind, attributes: Attributes, *, parent: str | None) -> OpenTelemetrySpan:
        """Start a span."""
        context = _context_of(parent) if parent else None
        return OpenTelemetrySpan(
            self._tracer.start_span(name, context, kind=trace.SpanKind[kind.name], attributes=attributes)
        )

    def entered(self, span: Span) -> AbstractContextManager[object]:
        """Make a span of this tracer the current span while the context is entered."""
        assert isinstance(span, OpenTelemetrySpan)  # noqa: S101 - a process has one tracer
        # Exception messages can contain text of documents, so only `Span.fail` records errors, by code.
        return trace.use_span(span.wrapped, record_exception=False, set_status_on_exception=False)

    def record(self, name: str, attributes: Attributes, *, duration_s: float, code: str | None) -> None:
        """Record a span for a call that just ended."""
        if not trace.get_current_span().get_span_context().is_valid:
            return
        ended_ns = time.time_ns()
        started_ns = ended_ns - int(duration_s * NANOSECONDS)
        span = OpenTelemetrySpan(
            self._tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes, start_time=started_ns)
        )
        if code is not None:
            span.fail(code)
        span.wrapped.end(ended_ns)

    def traceparent(self) -> str | None:
        """Return the traceparent of the current span."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return carrier.get("traceparent")


def open_tracer(exporter: str, *, service: str) -> OpenTelemetryTracer:
    """Return a tracer that exports spans in the background and flushes them when the process exits.

    The SDK reads service name, endpoint, headers and sampler from its own variables (OTEL_…).
    """
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
    resource = Resource.create({"service.name": service}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    return OpenTelemetryTracer(provider)


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter(out=sys.stdout, formatter=_to_line)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional

    return OTLPSpanExporter()


def _to_line(span: ReadableSpan) -> str:
    line: str = span.to_json(indent=None)
    return f"{line}\n"


def _context_of(traceparent: str) -> Context:
    return _propagator.extract({"traceparent": traceparent})
