"""The systemd units are valid, start in order and share one sandbox."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.deploy.files import BIN, DEPLOY, read_unit

if TYPE_CHECKING:
    from pathlib import Path

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (apt install systemd)")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    environment = tmp_path / "ragsvc.env"
    environment.touch()
    for path in (DEPLOY / "systemd").iterdir():
        # systemd requires that the programs exist, so use those of the tests' environment.
        text = path.read_text().replace("/opt/ragsvc/bin", str(BIN)).replace("/etc/ragsvc/ragsvc.env", str(environment))
        (tmp_path / path.name.replace("@.", "@1.")).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir() if path.suffix in {".service", ".target"})
    assert ANALYZE is not None
    command = [ANALYZE, "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    # The output can also contain complaints about the machine's own units.
    assert [line for line in done.stderr.splitlines() if "ragsvc" in line] == []


def test_every_unit_has_the_same_sandbox() -> None:
    sandboxes = []
    for path in UNITS:
        assignments = read_unit(path)
        first = next(index for index, (name, _value) in enumerate(assignments) if name == "PrivateTmp")
        sandboxes.append([pair for pair in assignments[first:] if pair[0] != "WantedBy"])
    assert len(sandboxes) == 4
    assert all(sandbox == sandboxes[0] for sandbox in sandboxes)
    assert ("NoNewPrivileges", "yes") in sandboxes[0]


def test_every_unit_starts_after_the_migration() -> None:
    for path in UNITS:
        if path.name != "ragsvc-migrate.service":
            unit = read_unit(path)
            assert ("Requires", "ragsvc-migrate.service") in unit
            assert ("After", "ragsvc-migrate.service") in unit
