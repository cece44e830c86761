"""The events of a run (http.md's names are the face's), and their form in a stream that all processes read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import orjson

from ragsvc.domain.chat import Citation, Source

if TYPE_CHECKING:
    from uuid import UUID

    from ragsvc.domain.chat import ChatMessage


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run has begun; `message_id` will be the answer's."""

    message_id: UUID


@dataclass(frozen=True, slots=True)
class RetrievalCompleted:
    """What the answer will be made from."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class MessageDelta:
    """A piece of the answer, and where it belongs, in code points of the answer."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class MessageCitation:
    """A `[n]` of the answer so far."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class MessageCompleted:
    """The answer is complete."""

    message: ChatMessage
    finish_reason: str


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run stopped on an error; the text so far is kept."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """Somebody cancelled the run."""


@dataclass(frozen=True, slots=True)
class RunInterrupted:
    """The run's process stopped; `text_length` code points of the answer are kept."""

    text_length: int
    retryable: bool = True


RunEnd: TypeAlias = MessageCompleted | RunFailed | RunCancelled | RunInterrupted
EventBody: TypeAlias = RunStarted | RetrievalCompleted | MessageDelta | MessageCitation | RunEnd


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event with its number, counted from 1 in each run."""

    id: int
    body: EventBody

    @property
    def is_end(self) -> bool:
        """Whether no event follows."""
        return isinstance(self.body, (MessageCompleted, RunFailed, RunCancelled, RunInterrupted))


def encode_body(body: EventBody) -> bytes:
    """Return the event for the stream. An end only says that it is one: Postgres has it by then."""
    match body:
        case MessageDelta():
            return orjson.dumps(["delta", body.offset, body.text])
        case MessageCitation():
            return orjson.dumps(["citation", body.citation])
        case RetrievalCompleted():
            return orjson.dumps(["sources", body.sources])
        case RunStarted():
            return orjson.dumps(["started", body.message_id])
        case _:
            return b'["end"]'


def decode_body(content: bytes) -> RetrievalCompleted | MessageDelta | MessageCitation | None:
    """Return what `encode_body` encoded; None for an event that Postgres tells."""
    kind, *rest = orjson.loads(content)
    match kind:
        case "delta":
            return MessageDelta(offset=rest[0], text=rest[1])
        case "citation":
            return MessageCitation(Citation.from_json(rest[0]))
        case "sources":
            return RetrievalCompleted(tuple(Source.from_json(source) for source in rest[0]))
        case _:
            return None
