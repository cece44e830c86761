"""The service that a command talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from ragsvc.cli.client.target import READY_FILE, Target, find_target
from ragsvc.cli.exits import BadUsage
from tests.cli.conftest import CLIENT_VARIABLES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in CLIENT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
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
