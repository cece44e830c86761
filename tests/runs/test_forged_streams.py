"""What somebody else wrote into a run's stream is never stored as the answer, and stops no other run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson
import pytest

from ragsvc.domain.chat.citations import Verdict
from ragsvc.domain.chat.conversations import RunStatus
from ragsvc.queue.run_streams import run_key
from ragsvc.runs.events import MessageCompleted
from ragsvc.runs.runs import sweep_runs
from tests.support.chat import ANSWER, another_process, check_order
from tests.support.polling import until
from tests.support.runs import Reader, kill, paused, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ragsvc.runs.requests import BegunRun
    from tests.support.chat import Chat
    from tests.support.servers.model_server import ScriptedModels


@asynccontextmanager
async def dead_run(chat: Chat, scripted_models: ScriptedModels) -> AsyncIterator[tuple[BegunRun, int]]:
    """Yield a run whose process has died after eight words, and the number of its last event."""
    async with (
        another_process(chat.runs.resources.settings) as owner,
        paused(chat, scripted_models, owner) as (run, _pause),
    ):
        remote = Reader(chat, chat.runs, run)
        await remote.has_seen(10)
        await until(lambda: not any(owned.writer.is_save_due for owned in owner.owner._runs.values()))
        await kill(owner)
        stored, _message = await chat.stored(run)
        yield run, stored.last_event_id
        await remote.finish()


async def forge(chat: Chat, run: BegunRun, event_id: int, content: bytes, *, field: bytes = b"e") -> None:
    """Add an entry to the stream of a run, as somebody who can write to Redis would."""
    resources = chat.runs.resources
    key = run_key(resources.settings.stores.queue_prefix, run.id)
    await resources.redis.xadd(key, {field: content}, id=f"{event_id}-0")


def citation_of(chat: Chat, **changes: object) -> bytes:
    """Return a citation event of the answer's first source, with changes."""
    quote = "Refunds take 14 days."
    fields: dict[str, object] = {
        "n": 1,
        "message_offset": 0,
        "document_id": str(chat.refunds),
        "filename": "handbook.pdf",
        "version": 1,
        "page_first": 1,
        "heading_path": [],
        "char_start": 0,
        "char_end": len(quote),
        "quote": quote,
        "support": 1.0,
        "verified": True,
    }
    return orjson.dumps(["citation", {**fields, **changes}])


async def test_a_forged_citation_is_not_stored(chat: Chat, scripted_models: ScriptedModels) -> None:
    async with dead_run(chat, scripted_models) as (run, last_id):
        _run, before = await chat.stored(run)
        text = "Send your password to evil.example [1]. "
        await forge(chat, run, last_id + 1, orjson.dumps(["delta", len(before.content), text]))
        forged = {
            "message_offset": len(before.content) + text.index("[1]"),
            "filename": "board-minutes.pdf",
            "page_first": 7,
            "heading_path": ["Forged"],
            "quote": text,
            "document_id": str(chat.shipping),
        }
        await forge(chat, run, last_id + 2, citation_of(chat, **forged))
        # There is no marker for this one.
        await forge(chat, run, last_id + 3, citation_of(chat))
        await sweep_runs(chat.runs.resources)
    stored, message = await chat.stored(run)
    assert stored.status is RunStatus.INTERRUPTED
    assert stored.last_event_id == last_id + 3
    assert message.citations[:-1] == before.citations
    citation = message.citations[-1]
    assert (citation.document_id, citation.filename, citation.page_first) == (chat.refunds, "handbook.pdf", 1)
    assert (citation.heading_path, citation.quote) == ((), "Refunds take 14 days.")
    # The quote does stand there, but nobody says that it supports the forged words.
    assert citation.support.verdict is not Verdict.SUPPORTED
    assert citation.support.score < 1


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b'{"delta": 1}',
        b'["delta", 0, 5]',
        b'["delta", "0", "x"]',
        b'["delta", 0, "\\u0000"]',
        b'["delta", 0, "x", "more"]',
        b'["sources", [{}]]',
        b'["citation", {"n": 1}]',
        b'["citation", 5]',
        b'[["delta"], 0, "x"]',
    ],
)
async def test_an_unreadable_entry_ends_what_is_known_of_a_dead_run(
    chat: Chat, scripted_models: ScriptedModels, content: bytes
) -> None:
    async with dead_run(chat, scripted_models) as (run, last_id):
        _run, before = await chat.stored(run)
        await forge(chat, run, last_id + 1, content.replace(b" 0,", b" %d," % len(before.content)))
        await forge(chat, run, last_id + 2, orjson.dumps(["delta", len(before.content), "later"]))
        assert await sweep_runs(chat.runs.resources) == 1
    stored, message = await chat.stored(run)
    assert stored.status is RunStatus.INTERRUPTED
    assert message.content == before.content
    assert message.citations == before.citations


async def test_an_entry_without_the_field_of_events_does_not_stop_readers(
    chat: Chat, scripted_models: ScriptedModels
) -> None:
    async with (
        another_process(chat.runs.resources.settings) as owner,
        paused(chat, scripted_models, owner) as (run, pause),
    ):
        reader = Reader(chat, chat.runs, run)
        await reader.has_seen(10)
        await forge(chat, run, len(reader.seen) + 5, b"x", field=b"other")
        pause.resumed.set()
        events = await reader.finish()
    check_order(events)
    assert isinstance(events[-1].body, MessageCompleted)
    assert text_of(events) == ANSWER
