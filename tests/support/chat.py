"""Fixtures and helpers for tests of chats: documents, a scripted model, and processes that answer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ragsvc.db import chat_messages, chat_runs, chat_sessions
from ragsvc.domain.ids import new_id
from ragsvc.resources import open_resources
from ragsvc.runs.events import MessageDelta
from ragsvc.runs.requests import begin_run
from ragsvc.runs.runs import Runs, follow_run, open_runs
from tests.support.documents.library import Library

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from ragsvc.domain.chat.conversations import ChatMessage, ChatRun, ChatSession
    from ragsvc.domain.workspaces import Workspace
    from ragsvc.resources import Resources
    from ragsvc.runs.events import RunEvent
    from ragsvc.runs.requests import BegunRun
    from ragsvc.settings.settings import Settings
    from tests.support.servers.model_server import ScriptedModels

REFUNDS = "Refunds take 14 days. They are paid to the card that was charged."
SHIPPING = "Shipping is free above 50 euros. Parcels arrive within three days."
ANSWER = "Refunds take 14 days [1]. Shipping is free above 80 euros [2]. The king is bald [7]."


@pytest.fixture
async def scripted(settings: Settings, scripted_models: ScriptedModels) -> AsyncIterator[Resources]:
    """The resources of a process that uses the scripted model server."""
    async with open_resources(scripted_models.applied_to(settings), pool_size=8) as opened:
        yield opened


@pytest.fixture
def library(scripted: Resources, workspace: Workspace) -> Library:
    """The test's workspace, whose documents are embedded by the scripted model."""
    return Library(scripted, workspace.id)


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat session in a workspace with two documents, and the runs of a process that answers."""

    runs: Runs
    library: Library
    session: ChatSession
    refunds: UUID
    shipping: UUID

    @property
    def workspace_id(self) -> UUID:
        """The id of the workspace."""
        return self.library.workspace_id

    async def ask(self, content: str = "How long do refunds take?") -> BegunRun:
        """Begin a run."""
        return await begin_run(self.runs, self.workspace_id, self.session.id, content=content)

    async def events(self, run: BegunRun, *, runs: Runs | None = None, after: int = 0) -> list[RunEvent]:
        """Follow a run to its end, from the process that owns `runs` if it is given."""
        return [event async for event in follow_run(runs or self.runs, self.workspace_id, run.id, after=after)]

    async def stored(self, run: BegunRun) -> tuple[ChatRun, ChatMessage]:
        """Return the run and its answer as stored in Postgres."""
        async with self.runs.resources.pool.acquire() as conn:
            found = await chat_runs.select_run_with_message(conn, self.workspace_id, run.id)
        assert found is not None
        return found

    async def messages(self) -> list[ChatMessage]:
        """Return the session's messages."""
        async with self.runs.resources.pool.acquire() as conn:
            return await chat_messages.select_messages(conn, self.workspace_id, self.session.id, limit=100)


@pytest.fixture
async def chat(library: Library) -> AsyncIterator[Chat]:
    """A chat session with two documents, and the runs of a process that answers."""
    refunds = await library.add(REFUNDS, filename="handbook.pdf", has_pages=True)
    shipping = await library.add(SHIPPING, filename="shipping.md", heading_path=("Shop", "Delivery"))
    async with library.resources.pool.acquire() as conn:
        session = await chat_sessions.insert_session(
            conn, library.workspace_id, new_id(), title=None, instructions=None, model=None, collection_ids=None
        )
    async with open_runs(library.resources) as runs:
        yield Chat(runs, library, session, refunds, shipping)


@asynccontextmanager
async def another_process(settings: Settings) -> AsyncIterator[Runs]:
    """Open runs as another process would, with its own connections and owner name."""
    async with open_resources(settings, pool_size=4) as resources, open_runs(resources) as runs:
        yield runs


def bodies(events: list[RunEvent], kind: type) -> list[object]:
    """Return the bodies of the events of one kind."""
    return [event.body for event in events if isinstance(event.body, kind)]


def check_order(events: list[RunEvent], *, first: int = 1) -> None:
    """Check that events are numbered consecutively and that the offsets of deltas match the text."""
    assert [event.id for event in events] == list(range(first, first + len(events)))
    offset = 0
    for event in events:
        if isinstance(event.body, MessageDelta):
            assert event.body.offset == offset
            offset += len(event.body.text)
