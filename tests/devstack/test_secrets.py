"""Generated secrets are stable and private."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ragsvc.devstack.secrets import load_secrets, write_private

if TYPE_CHECKING:
    from pathlib import Path


def test_the_same_secrets_are_loaded_again(tmp_path: Path) -> None:
    first = load_secrets(tmp_path / "secrets.json")
    assert load_secrets(tmp_path / "secrets.json") == first
    assert len(set(asdict(first).values())) == len(asdict(first))


def test_two_data_directories_share_no_secret(tmp_path: Path) -> None:
    one, other = (asdict(load_secrets(tmp_path / name)) for name in ("one.json", "other.json"))
    assert not set(one.values()) & set(other.values())


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    load_secrets(tmp_path / "secrets.json")
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_new_secret_is_added_and_the_others_are_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = asdict(load_secrets(path))
    path.write_text(json.dumps({"redis_password": first["redis_password"], "of_a_newer_version": "x"}))
    second = load_secrets(path)
    assert second.redis_password == first["redis_password"]
    assert second.postgres_password != first["postgres_password"]
    assert load_secrets(path) == second


def test_a_world_readable_file_becomes_private_when_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["ready.json"]
