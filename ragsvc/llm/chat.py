"""Streamed answers: the pieces of text as they come, then why they ended and what they cost."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import openai
import stamina
import structlog

from ragsvc.errors import TransientFailure
from ragsvc.llm.calls import calling
from ragsvc.llm.failures import timed_out, translate
from ragsvc.llm.retries import QUICK_TRIES, QUICK_TRIES_S, is_worth_a_quick_try
from ragsvc.models.chat import TokenUsage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from ragsvc.llm.calls import ModelCall
    from ragsvc.settings import Settings

    Stream = openai.AsyncStream[object]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """What somebody said, as the model is told."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of an answer; the last ones carry no text, but the reason of the end and the cost."""

    text: str = ""
    finish_reason: str | None = None
    usage: TokenUsage | None = None


class Chat:
    """Streams answers of an OpenAI-compatible server."""

    def __init__(self, client: openai.AsyncOpenAI, settings: Settings) -> None:
        self._client = client
        self._silence_s = settings.model_timeout_s

    async def stream(self, turns: Sequence[ChatTurn], *, model: str) -> AsyncGenerator[ChatDelta, None]:
        """Yield an answer's deltas; closing the generator ends the model's work. Raises like `Models.stream_chat`."""
        finished = False
        with calling("chat") as call:
            async with self._open(turns, model=model) as (reader, first, stream):
                call.begin_to_answer()
                for delta in first:
                    finished |= _note(call, delta)
                    yield delta
                while (chunk := await self._next(stream)) is not None:
                    for delta in reader.read(chunk):
                        finished |= _note(call, delta)
                        yield delta
            if not finished:
                raise TransientFailure("chat_unavailable", "The chat model's answer was cut off")

    @asynccontextmanager
    async def _open(
        self, turns: Sequence[ChatTurn], *, model: str
    ) -> AsyncIterator[tuple[_ChunkReader, list[ChatDelta], Stream]]:
        """Open a stream and wait for its first words; until then, and only until then, a failure is tried again."""
        stream: Stream | None = None
        try:
            async for attempt in stamina.retry_context(
                on=is_worth_a_quick_try, attempts=QUICK_TRIES, timeout=QUICK_TRIES_S, wait_initial=0.1, wait_max=1.0
            ):
                with attempt:
                    if stream is not None:
                        await stream.close()
                    asked_at = time.monotonic()
                    stream = await self._ask(turns, model=model)
                    reader = _ChunkReader()
                    first = await self._read_first(stream, reader)
                    _log_first_token(stream, model=model, asked_at=asked_at)
            if stream is not None:
                yield reader, first, stream
        finally:
            if stream is not None:
                await stream.close()

    async def _ask(self, turns: Sequence[ChatTurn], *, model: str) -> Stream:
        body = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            # `chat.completions.create` makes a model of every chunk, which costs half of what an answer costs here.
            return await self._client.post(
                "/chat/completions", body=body, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
        except openai.OpenAIError as error:
            raise translate(error, ask="chat") from error

    async def _read_first(self, stream: Stream, reader: _ChunkReader) -> list[ChatDelta]:
        while (chunk := await self._next(stream)) is not None:
            if deltas := list(reader.read(chunk)):
                return deltas
        raise TransientFailure("chat_unavailable", "The chat model answered nothing")

    async def _next(self, stream: Stream) -> object:
        try:
            # The client's own timeout starts again with every byte, comments that keep a connection open included.
            async with asyncio.timeout(self._silence_s):
                return await anext(stream)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise timed_out(ask="chat") from None
        except openai.OpenAIError as error:
            raise translate(error, ask="chat") from error
        except ValueError as error:
            raise TransientFailure("chat_unavailable", "The chat model's answer cannot be read") from error


class _ChunkReader:
    """Reads chunks as deltas of text that every store takes."""

    def __init__(self) -> None:
        self._half = ""

    def read(self, chunk: object) -> Iterator[ChatDelta]:
        """Yield what a chunk tells; what it tells in another form than OpenAI's is passed over."""
        for choice in _list_of_objects(chunk, "choices")[:1]:
            delta = _object_of(choice, "delta")
            text = self._mend(_text_of(delta, "content") or _text_of(delta, "refusal"))
            finish_reason = _text_of(choice, "finish_reason")
            if text or finish_reason:
                yield ChatDelta(text=text, finish_reason=finish_reason or None)
        if usage := _object_of(chunk, "usage"):
            yield ChatDelta(usage=TokenUsage(_count_of(usage, "prompt_tokens"), _count_of(usage, "completion_tokens")))

    def _mend(self, text: str) -> str:
        """Join a character that a server cut in two UTF-16 halves, replace a lone half, and drop NUL."""
        if text.isascii() and not self._half and "\0" not in text:
            return text
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        whole = text.removesuffix(self._half).replace("\0", "")
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _note(call: ModelCall, delta: ChatDelta) -> bool:
    """Note what the answer cost, once it is told, and return whether this ends it."""
    if delta.usage is not None:
        call.cost(input_tokens=delta.usage.prompt_tokens, output_tokens=delta.usage.completion_tokens)
    return delta.finish_reason is not None


def _object_of(value: object, name: str) -> dict[str, object]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list_of_objects(value: object, name: str) -> list[dict[str, object]]:
    found = value.get(name) if isinstance(value, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _text_of(value: dict[str, object], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _count_of(value: dict[str, object], name: str) -> int:
    found = value.get(name)
    return found if isinstance(found, int) else 0


def _log_first_token(stream: Stream, *, model: str, asked_at: float) -> None:
    log.info(
        "model_began_to_answer",
        model=model,
        first_token_ms=round((time.monotonic() - asked_at) * 1000, 1),
        provider_request_id=stream.response.headers.get("x-request-id"),
    )
