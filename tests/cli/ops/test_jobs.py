"""`ragsvc jobs sweep` finds lost jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import CommandLine

pytestmark = pytest.mark.xdist_group("cli-service")


def test_a_sweep_without_lost_jobs_notifies_nothing(on_server: CommandLine) -> None:
    assert on_server("jobs", "sweep").out == "no job was lost\n"
    assert on_server("jobs", "sweep", "--json").json == {"swept": 0}


def test_a_wrong_setting_is_reported_in_one_line(cli: CommandLine) -> None:
    assert "DATABASE_URL is not set" in cli("jobs", "sweep").error
