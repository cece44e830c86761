"""The events of a run: their public names, and their encoding in the Redis stream that all processes read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import orjson

from ragsvc.domain.chat.citations import Citation, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from ragsvc.domain.chat.conversations import ChatMessage


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run has begun; the answer will be the message `message_id`."""

    name: ClassVar[str] = "run.started"

    message_id: UUID


@dataclass(frozen=True, slots=True)
class RetrievalCompleted:
    """The sources of the answer are known."""

    name: ClassVar[str] = "retrieval.completed"

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class MessageDelta:
    """A piece of the answer; it begins `offset` code points into the answer."""

    name: ClassVar[str] = "message.delta"

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class MessageCitation:
    """The citation for a `[n]` in the answer so far."""

    name: ClassVar[str] = "message.citation"

    citation: Citation


@dataclass(frozen=True, slots=True)
class MessageCompleted:
    """The answer is complete."""

    name: ClassVar[str] = "message.completed"

    message: ChatMessage
    finish_reason: str


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run ended with an error; the text so far is kept."""

    name: ClassVar[str] = "run.failed"

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """The run was cancelled."""

    name: ClassVar[str] = "run.cancelled"


@dataclass(frozen=True, slots=True)
class RunInterrupted:
    """The run's process stopped; the first `text_length` code points of the answer are kept."""

    name: ClassVar[str] = "run.interrupted"

    text_length: int
    retryable: bool = True


RunEnd: TypeAlias = MessageCompleted | RunFailed | RunCancelled | RunInterrupted
StreamedBody: TypeAlias = RetrievalCompleted | MessageDelta | MessageCitation
EventBody: TypeAlias = RunStarted | StreamedBody | RunEnd


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event with its number, counted from 1 in each run."""

    id: int
    body: EventBody

    @property
    def is_end(self) -> bool:
        """Whether this is the run's last event."""
        return isinstance(self.body, RunEnd)


class _Encoding(NamedTuple):
    """How a kind of event is encoded in the stream: as a JSON array of `kind` and the fields."""

    kind: str
    to_fields: Callable[[Any], list[object]]
    from_fields: Callable[..., StreamedBody]


def _delta_of(offset: object, text: object) -> MessageDelta:
    # Postgres cannot store NUL.
    if not isinstance(offset, int) or not isinstance(text, str) or not text or "\0" in text:
        raise ValueError("not a delta")
    return MessageDelta(text, offset)


# Only these events are read from the stream. Postgres has all others before they are appended.
_ENCODINGS: dict[type[EventBody], _Encoding] = {
    RetrievalCompleted: _Encoding(
        "sources",
        lambda body: [body.sources],
        lambda sources: RetrievalCompleted(tuple(map(Source.from_json, sources))),
    ),
    MessageDelta: _Encoding("delta", lambda body: [body.offset, body.text], _delta_of),
    MessageCitation: _Encoding(
        "citation", lambda body: [body.citation], lambda citation: MessageCitation(Citation.from_json(citation))
    ),
}
_BY_KIND = {encoding.kind: encoding for encoding in _ENCODINGS.values()}
# Stream entry of an event that must be read from Postgres.
STORED_MARKER = b'["stored"]'


def encode_body(body: EventBody) -> bytes:
    """Return the event for the stream, or STORED_MARKER when readers find it in Postgres."""
    encoding = _ENCODINGS.get(type(body))
    return orjson.dumps([encoding.kind, *encoding.to_fields(body)]) if encoding else STORED_MARKER


def decode_body(content: bytes) -> StreamedBody | None:
    """Return the event that `encode_body` encoded; None when it must be read from Postgres.

    That includes events of a newer version, with another kind or more fields, and entries that are no events at all:
    whoever can write to Redis must not stop the readers.
    """
    try:
        kind, *fields = orjson.loads(content)
        return _BY_KIND[kind].from_fields(*fields)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
