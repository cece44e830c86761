"""Searching and asking against a running service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ragsvc.cli.client.http import open_client
from ragsvc.cli.client.target import Target
from ragsvc.cli.commands.demo import QUESTIONS
from ragsvc.cli.commands.samples import SAMPLES
from ragsvc.cli.commands.upload import Upload, upload_files
from ragsvc.cli.progress_view import QuietProgressView
from tests.cli.conftest import open_tenant

if TYPE_CHECKING:
    from tests.cli.conftest import CommandLine, Service


pytestmark = pytest.mark.xdist_group("cli-service")


@pytest.fixture(scope="module")
async def library(service: Service) -> dict[str, str]:
    """A workspace with the handbook and the notes."""
    tenant = await open_tenant(service)
    options = Upload(attributes={"kind": "sample"})
    async with open_client(Target(service.url, tenant["key"], None)) as client:
        paths = [SAMPLES / "handbook.pdf", SAMPLES / "notes.md"]
        uploaded = await upload_files(client, paths, options, view=QuietProgressView())
    assert [one.error for one in uploaded] == [None, None]
    return tenant


@pytest.fixture
def reader(cli: CommandLine, service: Service, library: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line with a key of that workspace."""
    monkeypatch.setenv("RAGSVC_URL", service.url)
    monkeypatch.setenv("RAGSVC_API_KEY", library["key"])
    return cli


def test_a_search_shows_sources_and_text(reader: CommandLine) -> None:
    result = reader("search", "wind speed limit of the dome", "--limit", "3")
    assert (result.code, result.err) == (0, "")
    assert "  1. " in result.out
    assert "handbook.pdf, page 3" in result.out
    found = reader("search", "wind speed limit of the dome", "--limit", "3", "--json").json["data"]
    assert [hit["score"] for hit in found] == sorted((hit["score"] for hit in found), reverse=True)
    assert 1 <= len(found) <= 3


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_every_mode_finds_the_sentence(reader: CommandLine, mode: str) -> None:
    found = reader("search", "join the group plugdev", "--mode", mode, "--json").json["data"]
    assert any("plugdev" in hit["text"] for hit in found)


def test_filters_are_applied(reader: CommandLine) -> None:
    sample = '{"type": "eq", "key": "kind", "value": "sample"}'
    other = '{"type": "ne", "key": "kind", "value": "sample"}'
    assert reader("search", "dome", "--filters", sample, "--json").json["data"]
    nothing = reader("search", "dome", "--filters", other)
    assert (nothing.code, nothing.out) == (0, "nothing found\n")


def test_bad_filters_are_reported(reader: CommandLine) -> None:
    assert reader("search", "dome", "--filters", "{").code == 2
    refused = reader("search", "dome", "--filters", '{"type": "like", "key": "a", "value": "b"}')
    assert refused.code == 1
    assert "(invalid_request)" in refused.error
    assert reader("search", "dome", "--collection", "col_" + "0" * 32).code == 1


@pytest.mark.parametrize(
    ("question", "fact", "span"),
    [
        (QUESTIONS[0], "54 kilometres per hour", "handbook.pdf, page 3: “"),
        (QUESTIONS[1], "plugdev", "notes.md, Setup > Linux: “"),
    ],
)
def test_an_answer_is_followed_by_its_citations(reader: CommandLine, question: str, fact: str, span: str) -> None:
    result = reader("ask", question)
    assert (result.code, result.err) == (0, "")
    text, *citations = result.out.strip().splitlines()
    cited = [line for line in citations if span in line]
    assert fact in result.out
    assert cited, result.out
    assert cited[0].startswith("[")
    assert not cited[0].endswith("(unverified)")
    assert cited[0].split("]")[0] + "]" in text + "".join(citations)


def test_a_session_can_be_continued(reader: CommandLine) -> None:
    events = reader("ask", "--json", QUESTIONS[0]).json_lines
    names = [event["event"] for event in events]
    assert names[:3] == ["session.created", "run.started", "retrieval.completed"]
    assert names[-1] == "message.completed"
    assert {"message.delta", "message.citation"} <= set(names)
    session = events[0]["data"]["id"]
    followed = reader("ask", "--json", "--session", session, QUESTIONS[1]).json_lines
    assert followed[0]["event"] == "run.started"
    answer = "".join(event["data"]["text"] for event in followed if event["event"] == "message.delta")
    assert followed[-1]["data"]["message"]["content"] == answer


def test_an_unknown_session_is_refused(user: CommandLine) -> None:
    result = user("ask", "--session", "chat_" + "0" * 32, "anything?")
    assert result.code == 1
    assert "(not_found)" in result.error


def test_an_existing_session_does_not_accept_options_for_new_ones(user: CommandLine) -> None:
    result = user("ask", "--session", "chat_" + "0" * 32, "--model", "m", "anything?")
    assert result.code == 2
    assert "for a new session" in result.error
