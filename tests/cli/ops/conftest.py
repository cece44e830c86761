"""Fixtures of the operators' commands."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from ragsvc.settings.settings import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import CommandLine, Service


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Restore this process's logging after the commands."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", "ragsvc", "arq")}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def on_server(operator: CommandLine, service: Service, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line with a server's settings."""
    for name in FIELDS:
        if name.upper() in service.env:
            monkeypatch.setenv(name.upper(), service.env[name.upper()])
    return operator
