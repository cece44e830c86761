"""What is no HTTP: anybody may send it, so it is told in one line, without what was sent."""

from __future__ import annotations

import logging

import structlog
from aiohttp.http_exceptions import HttpProcessingError

log = structlog.get_logger(__name__)


def quieten_malformed_requests() -> None:
    """Have aiohttp's server not log, with a traceback and the bytes, what it answers with 400."""
    logger = logging.getLogger("aiohttp.server")
    if _tell_briefly not in logger.filters:
        logger.addFilter(_tell_briefly)


def _tell_briefly(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    log.info("request_malformed", error=type(error).__name__)
    return False
