"""`ragsvc samples`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from ragsvc.cli.commands.samples import SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine

NAMES = ["handbook.pdf", "notes.md", "policy.docx", "release-notes.html"]


def test_the_samples_are_copied_to_a_new_folder(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "samples"
    copied = cli("samples", str(folder))
    assert copied.code == 0
    assert copied.out.splitlines() == [str(folder / name) for name in NAMES]
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    for name in NAMES:
        assert (folder / name).read_bytes() == (SAMPLES / name).read_bytes()


def test_copying_twice_changes_nothing(cli: CommandLine, tmp_path: Path) -> None:
    first = cli("samples", str(tmp_path), "--json")
    assert orjson.loads(first.out) == {"data": [str(tmp_path / name) for name in NAMES]}
    assert cli("samples", str(tmp_path), "--json").out == first.out


def test_a_different_file_of_the_same_name_is_not_overwritten(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# My own notes")
    refused = cli("samples", str(tmp_path))
    assert refused.code == 1
    assert "notes.md already exists with different content" in refused.error
    assert [path.name for path in tmp_path.iterdir()] == ["notes.md"]
    assert (tmp_path / "notes.md").read_text() == "# My own notes"


def test_a_folder_that_cannot_be_created_is_reported_in_one_line(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = cli("samples", str(tmp_path / "file" / "samples"))
    assert refused.code == 1
    assert "cannot be copied" in refused.error
