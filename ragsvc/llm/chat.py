"""Streamed answers: the pieces of text as they come, then why they ended and what they cost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import httpx2
import openai
import stamina
import structlog

from ragsvc.domain.chat import TokenUsage
from ragsvc.errors import ProviderRejected, TransientFailure, WorkError
from ragsvc.llm.calls import CONNECT_TIMEOUT_S, calling
from ragsvc.llm.errors import request_id_of, timed_out, translate
from ragsvc.llm.headers import NOT_OF_REQUESTS
from ragsvc.llm.retries import QUICK_TRIES, QUICK_TRIES_S, is_worth_a_quick_try
from ragsvc.llm.usage import read_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from ragsvc.llm.calls import ModelCall
    from ragsvc.settings.settings import Settings

    Stream = openai.AsyncStream[object]

REFUSED_OPTION = frozenset({400, 422})
CONTENT_FILTER = "content_filter"
REQUEST_ID = "x-request-id"

# A first token may take this many times MODEL_TIMEOUT_S, the limit for each later one.
FIRST_TOKEN_FACTOR = 1.0

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
        self._silence_s = settings.llm.model_timeout_s
        self._first_token_s = FIRST_TOKEN_FACTOR * settings.llm.model_timeout_s
        self._timeout = httpx2.Timeout(max(self._first_token_s, self._silence_s), connect=CONNECT_TIMEOUT_S)
        # What open answers keep of their requests.
        self._bodiless = httpx2.Request("POST", client.base_url)
        # Not every server knows the option that asks for the cost.
        self._asks_for_usage = True

    async def stream(self, turns: Sequence[ChatTurn], *, model: str) -> AsyncGenerator[ChatDelta, None]:
        """Yield an answer's deltas; closing the generator ends the model's work. Raises like `Models.stream_chat`."""
        finished = False
        with calling("chat", model=model) as call:
            answer = await self._open(turns, model=model)
            async with answer.stream:
                call.begin_to_answer()
                for delta in answer.first:
                    finished |= _note(call, delta)
                    yield delta
                while (deltas := await self._read_next(answer)) is not None:
                    for delta in deltas:
                        finished |= _note(call, delta)
                        yield delta
            if not finished:
                raise TransientFailure("chat_unavailable", "The chat model's answer was cut off")

    async def _open(self, turns: Sequence[ChatTurn], *, model: str) -> _OpenAnswer:
        """Return an answer that has begun; until then, and only until then, a failure is tried again.

        What the trying holds is not kept for as long as the answer goes on.
        """
        async for attempt in stamina.retry_context(
            on=is_worth_a_quick_try, attempts=QUICK_TRIES, timeout=QUICK_TRIES_S, wait_initial=0.1, wait_max=1.0
        ):
            with attempt:
                answer = await self._try_to_open(turns, model=model)
        return answer

    async def _try_to_open(self, turns: Sequence[ChatTurn], *, model: str) -> _OpenAnswer:
        asked_at = time.monotonic()
        stream = await self._ask(turns, model=model)
        reader = _ChunkReader()
        try:
            first = await self._read_first(stream, reader)
        except BaseException:
            await stream.close()
            raise
        _log_first_token(stream, model=model, asked_at=asked_at)
        # Else the whole prompt would be kept once more, as JSON, for as long as the answer goes on.
        stream.response.request = self._bodiless
        return _OpenAnswer(stream, reader, first)

    async def _ask(self, turns: Sequence[ChatTurn], *, model: str) -> Stream:
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
        }
        if self._asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        try:
            async with asyncio.timeout(self._first_token_s):
                return await self._post(body)
        except TimeoutError:
            raise timed_out(ask="chat") from None
        except openai.OpenAIError as error:
            if self._asks_for_usage and _is_about_usage(error):
                self._asks_for_usage = False
                return await self._ask(turns, model=model)
            raise _explain(error, model=model) from error

    async def _post(self, body: dict[str, object]) -> Stream:
        # `chat.completions.create` makes a model of every chunk, which costs half of what an answer costs here.
        return await self._client.post(
            "/chat/completions",
            body=body,
            options={"timeout": self._timeout, "headers": NOT_OF_REQUESTS},
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )

    async def _read_first(self, stream: Stream, reader: _ChunkReader) -> list[ChatDelta]:
        """Return the deltas up to the first words; a model that reasons before may take its time."""
        deltas: list[ChatDelta] = []
        while (chunk := await self._next(stream, silence_s=self._first_token_s)) is not None:
            deltas += reader.read(chunk)
            if any(delta.text for delta in deltas):
                return deltas
        if any(delta.finish_reason == CONTENT_FILTER for delta in deltas):
            raise ProviderRejected("chat_filtered", "The chat model's provider withheld the answer")
        raise TransientFailure("chat_empty", "The chat model answered nothing")

    async def _read_next(self, answer: _OpenAnswer) -> list[ChatDelta] | None:
        """Return what the next chunk tells; the chunk itself is not kept while the one after it is waited for."""
        chunk = await self._next(answer.stream, silence_s=self._silence_s)
        return None if chunk is None else list(answer.reader.read(chunk))

    async def _next(self, stream: Stream, *, silence_s: float) -> object:
        try:
            # The client's own timeout starts again with every byte, comments that keep a connection open included.
            async with asyncio.timeout(silence_s):
                return await anext(stream)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise timed_out(ask="chat") from None
        except openai.OpenAIError as error:
            raise _explain(error, request_id=stream.response.headers.get(REQUEST_ID)) from error
        except ValueError as error:
            raise TransientFailure("chat_unavailable", "The chat model's answer cannot be read") from error


def _is_about_usage(error: openai.OpenAIError) -> bool:
    return (
        isinstance(error, openai.APIStatusError)
        and error.status_code in REFUSED_OPTION
        and "stream_options" in str(error.body or error.message)
    )


def _explain(error: openai.OpenAIError, *, model: str | None = None, request_id: str | None = None) -> WorkError:
    failure = translate(error, ask="chat")
    log.warning(
        "model_failed",
        model=model,
        code=failure.work_code,
        http_status=failure.http_status,
        provider_request_id=request_id_of(error) or request_id,
    )
    return failure


class _ChunkReader:
    """Reads chunks as deltas of text that every store takes."""

    def __init__(self) -> None:
        self._half = ""

    def read(self, chunk: object) -> Iterator[ChatDelta]:
        """Yield what a chunk tells; what it tells in another form than OpenAI's is passed over."""
        for choice in _list_of_objects(chunk, "choices")[:1]:
            delta = _object_of(choice, "delta")
            text = self._mend(_content_of(delta) or _text_of(delta, "refusal"))
            finish_reason = _text_of(choice, "finish_reason")
            if text or finish_reason:
                yield ChatDelta(text=text, finish_reason=finish_reason or None)
        if cost := _cost_of(_object_of(chunk, "usage")):
            yield ChatDelta(usage=cost)

    def _mend(self, text: str) -> str:
        """Join a character that a server cut in two UTF-16 halves, replace a lone half, and drop NUL."""
        if text.isascii() and not self._half and "\0" not in text:
            return text
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        whole = text.removesuffix(self._half).replace("\0", "")
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True, slots=True)
class _OpenAnswer:
    """An answer whose first words have come."""

    stream: Stream
    reader: _ChunkReader
    first: list[ChatDelta]


def _note(call: ModelCall, delta: ChatDelta) -> bool:
    """Note what the answer cost, once it is told, and return whether this ends it."""
    if delta.usage is not None:
        call.cost(input_tokens=delta.usage.prompt_tokens, output_tokens=delta.usage.completion_tokens)
    if delta.finish_reason is not None:
        call.finish(delta.finish_reason)
    return delta.finish_reason is not None


def _object_of(value: object, name: str) -> dict[str, object]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list_of_objects(value: object, name: str) -> list[dict[str, object]]:
    found = value.get(name) if isinstance(value, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _content_of(delta: dict[str, object]) -> str:
    """Return the text of a delta, also where it comes in parts; what a model thinks is not part of it."""
    parts = [_text_of(part, "text") for part in _list_of_objects(delta, "content")]
    return _text_of(delta, "content") or "".join(parts)


def _text_of(value: dict[str, object], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _cost_of(usage: dict[str, object]) -> TokenUsage | None:
    """Return what a server told of the cost; None where it does not: 0 is what some say who do not count."""
    prompt_tokens = read_tokens(usage.get("prompt_tokens"))
    completion_tokens = read_tokens(usage.get("completion_tokens"))
    return TokenUsage(prompt_tokens, completion_tokens) if prompt_tokens and completion_tokens is not None else None


def _log_first_token(stream: Stream, *, model: str, asked_at: float) -> None:
    log.info(
        "model_began_to_answer",
        model=model,
        first_token_ms=round((time.monotonic() - asked_at) * 1000, 1),
        provider_request_id=stream.response.headers.get(REQUEST_ID),
    )
