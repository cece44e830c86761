"""The service that a command talks to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson
import pytest

from ragsvc.cli.client import saved_config
from ragsvc.cli.client.target import READY_FILE, Target, find_target
from ragsvc.cli.exits import BadUsage
from tests.cli.conftest import CLIENT_VARIABLES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in CLIENT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ready(folder: Path) -> Path:
    path = folder / READY_FILE
    path.parent.mkdir()
    path.write_bytes(orjson.dumps({"base_url": "http://127.0.0.1:1234", "api_key": "a", "admin_key": "b"}))
    return path


def test_the_default_target_is_the_default_port_without_a_key() -> None:
    assert find_target() == Target("http://127.0.0.1:8080", None, None)


@pytest.mark.usefixtures("ready")
def test_the_service_of_ragsvc_dev_is_found() -> None:
    assert find_target() == Target("http://127.0.0.1:1234", "a", "b")


@pytest.mark.usefixtures("ready")
def test_the_environment_wins_over_the_ready_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGSVC_API_KEY", "mine")
    assert find_target() == Target("http://127.0.0.1:1234", "mine", "b")


@pytest.mark.usefixtures("ready")
def test_the_keys_of_ragsvc_dev_are_never_sent_to_another_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGSVC_URL", "https://elsewhere.example/")
    assert find_target() == Target("https://elsewhere.example", None, None)


def test_the_service_of_ragsvc_dev_is_found_from_folders_below(
    ready: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(folder / "a" / "b")
    target = find_target()
    assert (target.base_url, target.api_key, target.origin) == ("http://127.0.0.1:1234", "a", str(ready))


@pytest.mark.usefixtures("ready")
def test_the_ready_file_of_another_user_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert find_target() == Target("http://127.0.0.1:8080", None, None)


def test_the_service_of_a_login_is_used_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved_config.write_login("https://rag.example.org", api_key="mine", admin_key=None)
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.chdir(tmp_path.parent)
    assert find_target() == Target("https://rag.example.org", "mine", None)
    assert find_target().origin == "ragsvc login"
    monkeypatch.setenv("RAGSVC_URL", "https://elsewhere.example")
    assert find_target() == Target("https://elsewhere.example", None, None)
    monkeypatch.setenv("RAGSVC_URL", "https://rag.example.org/")
    assert find_target() == Target("https://rag.example.org", "mine", None)


def test_a_running_ragsvc_dev_is_found_from_elsewhere(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_config.write_dev_ready_file(ready)
    monkeypatch.chdir(tmp_path.parent)
    assert find_target() == Target("http://127.0.0.1:1234", "a", "b")
    ready.unlink()
    assert find_target() == Target("http://127.0.0.1:8080", None, None)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_broken_ready_file_is_ignored(ready: Path, content: bytes) -> None:
    ready.write_bytes(content)
    assert find_target() == Target("http://127.0.0.1:8080", None, None)


@pytest.mark.parametrize(("admin", "name"), [(False, "RAGSVC_API_KEY"), (True, "RAGSVC_ADMIN_KEY")])
def test_a_missing_key_is_named(name: str, *, admin: bool) -> None:
    with pytest.raises(BadUsage, match=f"^{name} is not set"):
        find_target().key(admin=admin)


def test_an_invalid_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGSVC_URL", "localhost:8080")
    with pytest.raises(BadUsage, match="RAGSVC_URL must start with"):
        find_target()
