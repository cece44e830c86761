"""Logging: one structlog pipeline for our own events and those of libraries."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
import structlog

from ragsvc.domain.ids import Prefix, format_id
from ragsvc.errors.base import describe_error
from ragsvc.telemetry.redaction import redact
from ragsvc.telemetry.traces import current_traceparent

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from ragsvc.settings.settings import Settings

ID_PREFIXES: dict[str, Prefix] = {
    "workspace_id": "ws",
    "collection_id": "col",
    "document_id": "doc",
    "file_id": "file",
    "upload_id": "upl",
    "job_id": "job",
    "run_id": "run",
    "session_id": "chat",
    "message_id": "msg",
    "key_id": "key",
    "successor_id": "key",
    "webhook_id": "hook",
    "deletion_id": "del",
    "bulk_id": "bulk",
}


def configure_logging(settings: Settings) -> None:
    """Log our own events and those of the standard library to stderr through one pipeline.

    `LOG_FORMAT` selects JSON lines or console text. Variables bound by `structlog.contextvars` are included.
    """
    level: int = logging.getLevelNamesMapping()[settings.telemetry.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _describe_errors,
        _format_ids,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Python's own format, without local variables: they can contain secrets and text of documents.
                structlog.processors.format_exc_info,
                _redact,
                _make_renderer(settings.telemetry.log_format),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries log keys and bodies at DEBUG, and nothing useful below WARNING.
    root.setLevel(max(logging.WARNING, level))
    logging.getLogger("ragsvc").setLevel(level)
    # The `arq` command has set a handler and a level on this logger.
    arq = logging.getLogger("arq")
    arq.setLevel(logging.NOTSET)
    arq.handlers.clear()
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def _make_renderer(log_format: str) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(serializer=_to_json)
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current span, so that a log line can be linked to its trace."""
    if (traceparent := current_traceparent()) is not None:
        _version, event["trace_id"], event["span_id"], _flags = traceparent.split("-")
    return event


def _describe_errors(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace exceptions passed as values (`error=error`) with their descriptions."""
    return {
        name: describe_error(value) if name != "exc_info" and isinstance(value, BaseException) else value
        for name, value in event.items()
    }


def _format_ids(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Format ids as in the API, so that an id copied from a response can be found in the logs."""
    for name, value in event.items():
        if isinstance(value, UUID):
            prefix = ID_PREFIXES.get(name)
            event[name] = format_id(prefix, value) if prefix else value.hex
    return event


def _redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Redact secrets in messages, tracebacks and errors."""
    return {name: redact(value) if isinstance(value, str) else value for name, value in event.items()}


def _to_json(event: object, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()
