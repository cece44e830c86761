"""What is done with runs: begin, cancel, ask again, follow; and end those whose owner died."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import structlog

from ragsvc.answering.answer import Question
from ragsvc.answering.event_log import EventLog
from ragsvc.answering.events import decode_body
from ragsvc.answering.filters import compile_filter, dump_filter, load_filter
from ragsvc.answering.following import Follower
from ragsvc.answering.journal import Journal
from ragsvc.answering.run_owner import RunOwner
from ragsvc.db import chat_messages, chat_runs, chat_sessions
from ragsvc.errors import NotFound, RunNotRetryable
from ragsvc.models import ChatMessage, ChatRun, ChatSession, RunProgress, RunStatus, new_id
from ragsvc.queue.connection import REDIS_TROUBLE
from ragsvc.queue.run_streams import append_events, read_events
from ragsvc.queue.run_tails import RunTails

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from uuid import UUID

    from ragsvc.answering.events import RunEvent
    from ragsvc.answering.filters import Filter
    from ragsvc.resources import Resources
