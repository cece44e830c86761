"""Uploading, listing, reading and deleting documents against a running service."""

from __future__ import annotations

import os
import pty
import signal
from typing import TYPE_CHECKING, Any

import pytest

from ragsvc.cli.commands.demo import FILES
from ragsvc.cli.commands.samples import SAMPLES
from tests.cli.conftest import start_cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandLine

pytestmark = pytest.mark.xdist_group("cli-service")

NOTES = "# Kettles\n\nA kettle boils water.\n\n## Descaling\n\nDescale the kettle every three months.\n"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "kettles.md"
    path.write_text(NOTES)
    return path


def upload(user: CommandLine, *args: str) -> list[dict[str, Any]]:
    result = user("upload", "--json", *args)
    assert result.code == 0, result.err
    return [one["document"] for one in result.json["data"]]


def test_an_upload_is_followed_until_it_is_ready(user: CommandLine, notes: Path) -> None:
    result = user("upload", str(notes))
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("kettles.md  ██████████ 100%  uploading: ")
    assert "queued" in result.out
    assert lines[-1].startswith("kettles.md  ██████████ 100%  ready: 2 chunks, ")


def test_all_samples_become_ready(user: CommandLine) -> None:
    documents = upload(user, *(str(SAMPLES / name) for name in FILES))
    assert [(one["filename"], one["status"]) for one in documents] == [(name, "ready") for name in FILES]
    assert all(one["chunk_count"] > 3 for one in documents)
    mime_types = [one["mime_type"] for one in documents]
    assert mime_types[0] == "application/pdf"
    assert mime_types[2] == "text/html"


def test_attributes_and_collection_are_sent_with_the_file(user: CommandLine, notes: Path) -> None:
    first = upload(user, str(notes), "--attributes", '{"year": 2026, "draft": true}', "--no-wait")[0]
    assert first["attributes"] == {"year": 2026, "draft": True}
    second = user("upload", "--json", "--collection", "col_" + "0" * 32, str(notes))
    assert second.code == 1
    assert "(not_found)" in second.error


@pytest.mark.parametrize("attributes", ["{", "[]", "7", '"text"'])
def test_malformed_attributes_are_wrong_usage(user: CommandLine, notes: Path, attributes: str) -> None:
    result = user("upload", str(notes), "--attributes", attributes)
    assert result.code == 2
    assert "--attributes" in result.error
    assert user("documents", "list", "--json").json["data"] == []


def test_refused_attributes_are_reported_by_field(user: CommandLine, notes: Path) -> None:
    result = user("upload", str(notes), "--attributes", '{"nested": {"a": 1}}')
    assert result.code == 1
    assert "attributes" in result.error
    assert "(invalid_request)" in result.error


def test_an_empty_file_is_refused_and_the_others_continue(user: CommandLine, notes: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    result = user("upload", "--json", str(empty), str(notes))
    assert result.code == 1
    assert result.error.startswith(f"{empty}: ")
    assert "(empty_file)" in result.error
    assert [one["document"] and one["document"]["status"] for one in result.json["data"]] == [None, "ready"]


def test_a_failed_document_shows_the_reason(user: CommandLine, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nthis is not what it says")
    result = user("upload", str(broken))
    assert result.code == 1
    assert "(corrupt)" in result.error
    assert "failed: " in result.out


def test_a_missing_file_is_wrong_usage(user: CommandLine) -> None:
    result = user("upload", "nowhere.pdf")
    assert result.code == 2
    assert "'nowhere.pdf' does not exist" in result.error


def test_a_wrong_key_is_refused(user: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGSVC_API_KEY", "nobody's")
    for command in (("documents", "list"), ("search", "x"), ("ask", "x"), ("delete", "doc_" + "0" * 32)):
        result = user(*command)
        assert result.code == 1
        assert "(unauthorized)" in result.error


def test_documents_are_listed_page_by_page(user: CommandLine, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"number {number}")
    upload(user, *(str(tmp_path / f"{number}.txt") for number in range(3)))
    first = user("documents", "list", "--limit", "2", "--status", "ready", "--json").json
    second = user("documents", "list", "--limit", "2", "--cursor", first["next_cursor"], "--json").json
    names = [one["filename"] for page in (first, second) for one in page["data"]]
    assert sorted(names) == ["0.txt", "1.txt", "2.txt"]
    table = user("documents", "list", "--limit", "2").out
    assert "ready: 1 chunk, " in table
    assert f"more: --cursor {first['next_cursor']}" in table


def test_a_document_its_text_and_its_chunks_are_shown(user: CommandLine, notes: Path) -> None:
    document = upload(user, str(notes))[0]
    assert user("documents", "show", document["id"], "--json").json == document
    assert "kettles.md" in user("documents", "show", document["id"]).out
    text = user("documents", "text", document["id"]).out
    assert "Descale the kettle every three months." in text
    part = user("documents", "text", document["id"], "--start", "2", "--end", "9", "--json").json
    assert part["text"] == text[2:9]
    chunks = user("documents", "chunks", document["id"], "--json").json["data"]
    assert all(text[one["char_start"] : one["char_end"]] == one["text"] for one in chunks)
    assert "Kettles" in user("documents", "chunks", document["id"]).out


@pytest.mark.parametrize("document", ["doc_" + "0" * 32, "nonsense", "../workspace", "", "ä?b=c"])
def test_an_unknown_document_is_refused_by_every_command(user: CommandLine, document: str) -> None:
    for command in (("show",), ("text",), ("chunks",)):
        assert user("documents", *command, document).code == 1
    result = user("delete", document)
    assert result.code == 1
    assert result.out == ""


def test_a_deletion_shows_its_receipt(user: CommandLine, notes: Path) -> None:
    document = upload(user, str(notes))[0]
    result = user("delete", document["id"])
    assert (result.code, result.err) == (0, "")
    assert f"document {document['id']}: completed" in result.out
    assert "STORE" in result.out
    assert "verified by a second check" in result.out
    assert "(not_found)" in user("documents", "show", document["id"]).error


def test_deletions_can_output_json_and_name_unknown_documents(user: CommandLine, notes: Path) -> None:
    document = upload(user, str(notes))[0]
    unknown = "doc_" + "0" * 32
    result = user("delete", "--json", unknown, document["id"])
    assert result.code == 1
    assert result.error.startswith(f"{unknown}: ")
    (deletion,) = result.json["data"]
    assert deletion["status"] == "completed"
    assert sum(store["remaining"] for store in deletion["stores"]) == 0


def test_progress_bars_are_drawn_on_a_terminal(user: CommandLine, notes: Path) -> None:
    assert user("documents", "list").code == 0
    ours, theirs = pty.openpty()
    process = start_cli("upload", str(notes), stdout=theirs, env={"TERM": "xterm-256color", "COLUMNS": "120"})
    os.close(theirs)
    drawn = read_terminal(ours)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")
    assert "\x1b[" in drawn
    assert "━" in drawn
    assert "ready: 2 chunks" in drawn


def read_terminal(descriptor: int) -> str:
    """Return everything written to a terminal until the other side is closed."""
    drawn = b""
    with os.fdopen(descriptor, "rb", buffering=0) as terminal:
        try:
            while block := terminal.read(4096):
                drawn += block
        except OSError:  # Linux raises EIO once the other side is closed
            pass
    return drawn.decode()


def test_ctrl_c_ends_quietly_with_130(user: CommandLine, operator: CommandLine, notes: Path) -> None:
    assert operator("queues", "pause", "ingestion", "--reason", "a test").code == 0
    try:
        process = start_cli("upload", str(notes))
        assert process.stdout is not None
        for line in process.stdout:
            if "queued" in line:
                break
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        assert operator("queues", "resume", "ingestion").code == 0
    (document,) = user("documents", "list", "--json").json["data"]
    assert document["filename"] == "kettles.md"
    assert process.returncode == 130
    assert f"kettles.md: the service goes on with {document['id']}" in said


def test_a_document_is_ingested_again(user: CommandLine, notes: Path) -> None:
    document = upload(user, str(notes))[0]
    result = user("documents", "reingest", document["id"], "--max-tokens", "64", "--json")
    assert result.code == 0, result.err
    assert (result.json["status"], result.json["version"]) == ("queued", 1)
    again = user("documents", "reingest", "doc_" + "0" * 32)
    assert again.code == 1
