"""Spans of this process, recorded in memory and printed as a tree."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ragsvc.telemetry.opentelemetry import OpenTelemetryTracer
from ragsvc.telemetry.traces import use_tracer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

SHOWN = ("http.response.status_code", "ragsvc.attempt", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")


class Trace:
    """The spans of one trace."""

    def __init__(self, spans: Sequence[ReadableSpan]) -> None:
        self.spans = sorted(spans, key=lambda span: span.start_time or 0)
        self._by_id = {span.context.span_id: span for span in spans if span.context}

    def path(self, name: str) -> list[list[str]]:
        """Return the names from the root to the span, for each span with this name."""
        return [self._path(span) for span in self.spans if span.name == name]

    def named(self, name: str) -> ReadableSpan:
        """Return the only span with this name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def draw(self) -> str:
        """Return the tree of spans with their durations in ms."""
        return "\n".join(self._lines(None, depth=0))

    def _path(self, span: ReadableSpan) -> list[str]:
        parent = self._by_id.get(span.parent.span_id) if span.parent else None
        return [*(self._path(parent) if parent else []), span.name]

    def _lines(self, parent_id: int | None, *, depth: int) -> Iterator[str]:
        for span in self.spans:
            parent = span.parent.span_id if span.parent and span.parent.span_id in self._by_id else None
            if parent != parent_id or span.context is None:
                continue
            took_ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
            shown = {name.rpartition(".")[2]: (span.attributes or {}).get(name) for name in SHOWN}
            attributes = " ".join(f"{name}={value}" for name, value in shown.items() if value is not None)
            yield f"{'  ' * depth}{span.name}  {took_ms:.1f} ms  {attributes}".rstrip()
            yield from self._lines(span.context.span_id, depth=depth + 1)


class Recorder:
    """The spans recorded so far."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def trace(self, trace_id: str) -> Trace:
        """Return the spans of one trace."""
        finished = self.exporter.get_finished_spans()
        return Trace([span for span in finished if span.context and format(span.context.trace_id, "032x") == trace_id])


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record the spans of this process in memory until the `with` block ends."""
    recorder = Recorder()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(recorder.exporter))
    use_tracer(OpenTelemetryTracer(provider))
    try:
        yield recorder
    finally:
        use_tracer(None)
        provider.shutdown()
