"""Commands that list, show and delete what the API stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine

pytestmark = pytest.mark.xdist_group("cli-service")


def test_collections_are_created_listed_shown_and_deleted(user: CommandLine) -> None:
    created = user("collections", "create", "drafts", "--json").json
    assert created["id"] in user("collections", "list").out
    assert user("collections", "show", created["id"], "--json").json["name"] == "drafts"
    deleted = user("collections", "delete", created["id"], "--json").json
    assert deleted["deletion_id"].startswith("del_")
    assert user("collections", "show", "col_" + "0" * 32).error.startswith("collections/col_000")


def test_files_of_documents_are_listed_and_kept(user: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "kettles.md").write_text("Descale the kettle.")
    assert user("upload", str(tmp_path / "kettles.md")).code == 0
    (file,) = user("files", "list", "--json").json["data"]
    assert "kettles.md" in user("files", "list").out
    assert user("files", "show", file["id"], "--json").json == file
    assert "(file_in_use)" in user("files", "delete", file["id"]).error


def test_sessions_are_listed_and_deleted(user: CommandLine) -> None:
    assert user("ask", "What is a kettle?", "--json").code == 0
    (session,) = user("sessions", "list", "--json").json["data"]
    assert session["id"] in user("sessions", "list").out
    roles = {one["role"] for one in user("sessions", "messages", session["id"], "--json").json["data"]}
    assert roles == {"user", "assistant"}
    assert user("sessions", "delete", session["id"]).out == f"{session['id']} is deleted\n"
    assert user("sessions", "show", session["id"]).code == 1


def test_webhooks_and_usage_are_shown(user: CommandLine) -> None:
    assert user("webhooks", "list", "--json").json == {"data": []}
    refused = user("webhooks", "create", "https://example.org/hook")
    assert refused.code == 1
    assert "webhook" in refused.error
    assert user("usage").code == 0
    assert "data" in user("usage", "--first", "2026-01-01", "--json").json


def test_a_workspace_is_deleted_only_with_confirmation(operator: CommandLine) -> None:
    created = operator("workspaces", "create", "twins", "--json").json
    again = operator("workspaces", "create", "twins")
    assert f"the name twins is taken: {created['id']} has it too" in again.err
    assert operator("workspaces", "delete", created["id"]).code == 2
    accepted = operator("workspaces", "delete", created["id"], "--yes", "--json").json
    assert accepted["deletion_id"].startswith("del_")
