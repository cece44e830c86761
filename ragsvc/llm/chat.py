"""Streams answers of a chat model: pieces of text, then the finish reason and the token usage."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import httpx2
import openai
import stamina
import structlog

from ragsvc.domain.chat.conversations import TokenUsage
from ragsvc.errors.work import ProviderRejected, TransientFailure, WorkError
from ragsvc.llm.calls import CONNECT_TIMEOUT_S, calling
from ragsvc.llm.errors import request_id_of, timed_out, translate
from ragsvc.llm.headers import OMITTED_REQUEST_HEADERS
from ragsvc.llm.retries import QUICK_ATTEMPTS, QUICK_ATTEMPTS_S, should_retry_now
from ragsvc.llm.usage import read_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from ragsvc.llm.calls import ModelCall
    from ragsvc.settings.settings import Settings

    Stream = openai.AsyncStream[object]

REFUSED_OPTION = frozenset({400, 422})
CONTENT_FILTER = "content_filter"
REQUEST_ID = "x-request-id"
MAX_TOKENS = "max_tokens"
MAX_COMPLETION_TOKENS = "max_completion_tokens"

# The time limit for the first token, as a multiple of MODEL_TIMEOUT_S, which is the limit for each later one.
FIRST_TOKEN_FACTOR = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of an answer; the last ones contain no text, only the finish reason and the token usage."""

    text: str = ""
    finish_reason: str | None = None
    usage: TokenUsage | None = None


class Chat:
    """Streams answers from an OpenAI-compatible server."""

    def __init__(self, client: openai.AsyncOpenAI, settings: Settings) -> None:
        self._client = client
        self._silence_s = settings.llm.model_timeout_s
        self._first_token_s = FIRST_TOKEN_FACTOR * settings.llm.model_timeout_s
        self._timeout = httpx2.Timeout(max(self._first_token_s, self._silence_s), connect=CONNECT_TIMEOUT_S)
        # Takes the place of the request in each open answer, so that the memory of the prompt is freed.
        self._empty_request = httpx2.Request("POST", client.base_url)
        # Not every server supports the option that requests token usage.
        self._asks_for_usage = True
        self._max_tokens = settings.answering.max_output_tokens
        # OpenAI's newer models only accept the second name, and other servers only the first.
        self._max_tokens_name = MAX_TOKENS

    async def stream(self, turns: Sequence[ChatTurn], *, model: str) -> AsyncGenerator[ChatDelta, None]:
        """Yield the deltas of an answer; closing the generator stops the model. Raises like `LlmClient.stream_chat`."""
        finished = False
        with calling("chat", model=model) as call:
            answer = await self._open(turns, model=model)
            async with answer.stream:
                call.record_first_token()
                for delta in answer.first:
                    finished |= _record(call, delta)
                    yield delta
                while (deltas := await self._read_next(answer)) is not None:
                    for delta in deltas:
                        finished |= _record(call, delta)
                        yield delta
            if not finished:
                raise TransientFailure("chat_unavailable", "The chat model's answer was cut off")

    async def _open(self, turns: Sequence[ChatTurn], *, model: str) -> _OpenAnswer:
        """Return an answer whose first text has arrived; failures before that are retried.

        This is a separate function so that the retry state is freed while the answer streams.
        """
        async for attempt in stamina.retry_context(
            on=should_retry_now, attempts=QUICK_ATTEMPTS, timeout=QUICK_ATTEMPTS_S, wait_initial=0.1, wait_max=1.0
        ):
            with attempt:
                answer = await self._try_to_open(turns, model=model)
        return answer

    async def _try_to_open(self, turns: Sequence[ChatTurn], *, model: str) -> _OpenAnswer:
        asked_at = time.monotonic()
        stream = await self._request(turns, model=model)
        reader = _ChunkReader()
        try:
            first = await self._read_first(stream, reader)
        except BaseException:
            await stream.close()
            raise
        _log_first_token(stream, model=model, asked_at=asked_at)
        # The stream would otherwise keep the prompt in memory, as JSON, until the answer ends.
        stream.response.request = self._empty_request
        return _OpenAnswer(stream, reader, first)

    async def _request(self, turns: Sequence[ChatTurn], *, model: str) -> Stream:
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            "stream": True,
            self._max_tokens_name: self._max_tokens,
        }
        if self._asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        try:
            async with asyncio.timeout(self._first_token_s):
                return await self._post(body)
        except TimeoutError:
            raise timed_out(purpose="chat") from None
        except openai.OpenAIError as error:
            if self._asks_for_usage and _is_about_usage(error):
                self._asks_for_usage = False
                return await self._request(turns, model=model)
            if self._max_tokens_name == MAX_TOKENS and _is_about_max_tokens(error):
                self._max_tokens_name = MAX_COMPLETION_TOKENS
                return await self._request(turns, model=model)
            raise _explain(error, model=model) from error

    async def _post(self, body: dict[str, object]) -> Stream:
        # `chat.completions.create` would build a pydantic model of each chunk and double the CPU time of an answer.
        return await self._client.post(
            "/chat/completions",
            body=body,
            options={"timeout": self._timeout, "headers": OMITTED_REQUEST_HEADERS},
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )

    async def _read_first(self, stream: Stream, reader: _ChunkReader) -> list[ChatDelta]:
        """Return the deltas up to the first text; reasoning before it does not count as text."""
        deltas: list[ChatDelta] = []
        while (chunk := await self._next(stream, silence_s=self._first_token_s)) is not None:
            deltas += reader.read(chunk)
            if any(delta.text for delta in deltas):
                return deltas
        if any(delta.finish_reason == CONTENT_FILTER for delta in deltas):
            raise ProviderRejected("chat_filtered", "The chat model's provider withheld the answer")
        raise TransientFailure("chat_empty", "The chat model returned an empty answer")

    async def _read_next(self, answer: _OpenAnswer) -> list[ChatDelta] | None:
        """Return the deltas of the next chunk, without keeping the chunk in memory; None at the end."""
        chunk = await self._next(answer.stream, silence_s=self._silence_s)
        return None if chunk is None else list(answer.reader.read(chunk))

    async def _next(self, stream: Stream, *, silence_s: float) -> object:
        try:
            # The client's own timeout restarts with every byte, including keep-alive comments.
            async with asyncio.timeout(silence_s):
                return await anext(stream)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise timed_out(purpose="chat") from None
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


def _is_about_max_tokens(error: openai.OpenAIError) -> bool:
    """Return whether the model only accepts the newer name; a limit that is too large is a different error."""
    if not isinstance(error, openai.APIStatusError) or error.status_code not in REFUSED_OPTION:
        return False
    text = str(error.body or error.message).lower()
    return "unsupported" in text and MAX_COMPLETION_TOKENS in text


def _explain(error: openai.OpenAIError, *, model: str | None = None, request_id: str | None = None) -> WorkError:
    failure = translate(error, purpose="chat")
    log.warning(
        "model_failed",
        model=model,
        code=failure.work_code,
        http_status=failure.http_status,
        provider_request_id=request_id_of(error) or request_id,
    )
    return failure


class _ChunkReader:
    """Converts chunks to deltas, without characters that cannot be stored."""

    def __init__(self) -> None:
        self._half = ""

    def read(self, chunk: object) -> Iterator[ChatDelta]:
        """Yield the deltas of a chunk; fields that differ from OpenAI's format are ignored."""
        for choice in _list_of_objects(chunk, "choices")[:1]:
            delta = _object_of(choice, "delta")
            text = self._mend(_content_of(delta) or _text_of(delta, "refusal"))
            finish_reason = _text_of(choice, "finish_reason")
            if text or finish_reason:
                yield ChatDelta(text=text, finish_reason=finish_reason or None)
        if usage := _usage_of(_object_of(chunk, "usage")):
            yield ChatDelta(usage=usage)

    def _mend(self, text: str) -> str:
        """Join a character that a server split into two UTF-16 halves, replace a lone half, and drop NUL."""
        if text.isascii() and not self._half and "\0" not in text:
            return text
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        whole = text.removesuffix(self._half).replace("\0", "")
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True, slots=True)
class _OpenAnswer:
    """An answer whose first text has arrived."""

    stream: Stream
    reader: _ChunkReader
    first: list[ChatDelta]


def _record(call: ModelCall, delta: ChatDelta) -> bool:
    """Record the usage and the finish reason of a delta; return whether it ends the answer."""
    if delta.usage is not None:
        call.record_usage(input_tokens=delta.usage.prompt_tokens, output_tokens=delta.usage.completion_tokens)
    if delta.finish_reason is not None:
        call.record_finish_reason(delta.finish_reason)
    return delta.finish_reason is not None


def _object_of(value: object, name: str) -> dict[str, object]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list_of_objects(value: object, name: str) -> list[dict[str, object]]:
    found = value.get(name) if isinstance(value, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _content_of(delta: dict[str, object]) -> str:
    """Return the text of a delta, without the model's reasoning; the text can come in parts."""
    parts = [_text_of(part, "text") for part in _list_of_objects(delta, "content")]
    return _text_of(delta, "content") or "".join(parts)


def _text_of(value: dict[str, object], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _usage_of(usage: dict[str, object]) -> TokenUsage | None:
    """Return the token usage; None if it is absent or 0, which some servers send if they do not count."""
    prompt_tokens = read_tokens(usage.get("prompt_tokens"))
    completion_tokens = read_tokens(usage.get("completion_tokens"))
    return TokenUsage(prompt_tokens, completion_tokens) if prompt_tokens and completion_tokens is not None else None


def _log_first_token(stream: Stream, *, model: str, asked_at: float) -> None:
    log.info(
        "model_first_token_received",
        model=model,
        first_token_ms=round((time.monotonic() - asked_at) * 1000, 1),
        provider_request_id=stream.response.headers.get(REQUEST_ID),
    )
