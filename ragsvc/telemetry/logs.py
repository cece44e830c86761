"""Logging: one structlog pipeline for our events and for those of the libraries."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import orjson
import structlog

from ragsvc.telemetry.traces import current_traceparent

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from ragsvc.settings import Settings

# Libraries that log every request or job at INFO; ours say it once, with ids.
QUIET_LOGGERS = ("arq", "aiohttp.access", "botocore", "aiobotocore", "httpx", "httpx2", "openai")


def configure_logging(settings: Settings) -> None:
    """Send our events and the standard library's through one pipeline to stderr.

    JSON lines or console text by `LOG_FORMAT`; contextvars bound by `structlog.contextvars` come along.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[Processor]
    if settings.log_format == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    else:
        renderer = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Without local variables: they may hold secrets and documents.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in QUIET_LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers.clear()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        cache_logger_on_first_use=True,
    )


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Name the current span, so that a log line leads to its trace."""
    if (traceparent := current_traceparent()) is not None:
        _version, event["trace_id"], event["span_id"], _flags = traceparent.split("-")
    return event


def _to_json(event: object, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()
