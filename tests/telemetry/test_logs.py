"""Our logs and those of libraries go through one pipeline, which redacts secrets."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
import pytest

from ragsvc.telemetry.redaction import redact

PREAMBLE = """
import logging, sys, warnings, asyncpg, structlog
from ragsvc.settings.settings import Settings
from ragsvc.telemetry.logs import configure_logging
needed = {"database_url": "postgresql://x", "redis_url": "redis://x"}
configure_logging(Settings.of({**needed, "log_level": sys.argv[1], "log_format": sys.argv[2]}))
ours, theirs = structlog.get_logger("ragsvc.example"), logging.getLogger("some.library")
"""


def run_logging(script: str, *, level: str = "info", log_format: str = "json") -> str:
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", PREAMBLE + script, level, log_format], capture_output=True, text=True, check=True
    )
    return done.stderr


def lines_of(output: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in output.splitlines()]


def test_libraries_and_warnings_go_through_the_same_pipeline() -> None:
    output = run_logging("ours.info('job_finished', attempts=1); theirs.warning('odd %s', 3); warnings.warn('old')")
    ours, theirs, warned = lines_of(output)
    assert (ours["event"], ours["attempts"], ours["level"]) == ("job_finished", 1, "info")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("odd 3", "warning", "some.library")
    assert "old" in warned["event"]


def test_debug_applies_only_to_our_own_events() -> None:
    output = run_logging("ours.debug('looked'); theirs.debug('Authorization: …'); theirs.info('body')", level="debug")
    assert [line["event"] for line in lines_of(output)] == ["looked"]


def test_an_exception_passed_as_a_value_is_logged_as_its_message_or_type() -> None:
    output = run_logging(
        "ours.warning('call_failed', error=OSError('gone')); ours.warning('waited', error=TimeoutError())"
    )
    assert [line["error"] for line in lines_of(output)] == ["gone", "TimeoutError"]


def test_ids_are_logged_in_their_public_form() -> None:
    output = run_logging("from uuid import UUID; ours.info('ingested', document_id=UUID(int=10), odd_id=UUID(int=11))")
    (line,) = lines_of(output)
    assert (line["document_id"], line["odd_id"]) == (f"doc_{10:032x}", f"{11:032x}")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_contains_no_secret_and_no_row(log_format: str) -> None:
    script = """
error = asyncpg.CheckViolationError('new row violates "positive"')
error.detail = 'Failing row contains (a document of\\n\\nseveral lines).'
try:
    local = 'a secret in a variable'
    raise error
except Exception:
    ours.error('request_failed', exc_info=True, url='postgresql://me:hunter22@db/x', error=str(error))
    theirs.exception('Bearer abcdefgh12345678')
"""
    output = run_logging(script, log_format=log_format)
    assert 'new row violates "positive"' in output.replace('\\"', '"')
    for redacted in ("a document of", "several lines", "hunter22", "abcdefgh12345678"):
        assert redacted not in output


def test_text_after_a_redacted_row_is_unchanged() -> None:
    first = "asyncpg.X: no\nDETAIL:  Key (a)=(b).\n\nThe above exception was the direct cause of: Y"
    assert redact(first) == "asyncpg.X: no\nDETAIL:  ***\n\nThe above exception was the direct cause of: Y"
