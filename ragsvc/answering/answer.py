"""Answers one question: searches for sources, streams the model's text, and resolves its citations."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ragsvc.abstention import choose_no_answer_text, is_no_answer
from ragsvc.answering.citations.model_verdicts import judge_by_model
from ragsvc.answering.citations.parser import CitationParser, cite
from ragsvc.answering.citations.verification import verify_citation
from ragsvc.answering.condensing import condense
from ragsvc.answering.prompt import HISTORY_SHARE, fit_history, fit_prompt
from ragsvc.answering.sources import number_sources
from ragsvc.answering.token_meter import load_meter
from ragsvc.db import chat_messages
from ragsvc.domain.chat.conversations import RunStatus, TokenUsage
from ragsvc.errors.work import WorkError
from ragsvc.retrieval.search import SearchRequest, find_hits
from ragsvc.tasks import settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from ragsvc.answering.citations.parser import Marker
    from ragsvc.answering.prompt import Prompt
    from ragsvc.domain.chat.citations import Citation, Source
    from ragsvc.domain.chat.conversations import ChatMessage, ChatSession
    from ragsvc.domain.documents import FailureInfo
    from ragsvc.domain.search import SearchHit
    from ragsvc.resources import Resources
    from ragsvc.retrieval.filters import Filter

# The finish reason of an answer which says that the documents do not contain what was asked.
NO_ANSWER = "no_answer"
STOP = "stop"
# The finish reason of an answer that has reached the limit, as model servers report it.
LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the scope in which to search for its answer."""

    session: ChatSession
    has_history: bool
    message_id: UUID
    content: str
    filters: Filter | None
    limit: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended."""

    status: RunStatus
    finish_reason: str | None = None
    error: FailureInfo | None = None


class AnswerWriter(Protocol):
    """Receives an answer piece by piece, for example to store and stream it, or to collect it in memory."""

    model: str | None

    @property
    def text(self) -> str:
        """The answer so far."""
        ...

    async def add_sources(self, sources: tuple[Source, ...]) -> None:
        """Write the sources, before any text."""
        ...

    def add_text(self, text: str) -> None:
        """Write a piece of the answer."""
        ...

    def add_citation(self, citation: Citation) -> None:
        """Write a citation."""
        ...

    def replace_citations(self, citations: tuple[Citation, ...]) -> None:
        """Replace the citations written so far, in their order."""
        ...

    def add_usage(self, usage: TokenUsage) -> None:
        """Add the token usage of one model call; an answer may need several."""
        ...


class Answerer:
    """Writes the answer to one question."""

    def __init__(self, resources: Resources, question: Question, writer: AnswerWriter) -> None:
        self._resources = resources
        self._question = question
        self._writer = writer
        self._workspace_id = question.session.workspace_id
        self._model = resources.settings.llm.resolve_chat_model(question.session.model) or ""
        self._meter = load_meter(resources.settings)
        self._sources: Sequence[SearchHit] = ()
        self._no_answer_text = question.session.no_answer_text or choose_no_answer_text(question.content)
        self._cites_source = False
        self._citations: list[Citation] = []
        self._claims: list[str] = []

    async def answer(self) -> Outcome:
        """Write the sources, the text and its citations; return how the answer ended.

        Raises:
            WorkError: a model failed, or the writer refused the sources. The text written so far is kept.
        """
        prompt = await self._prepare()
        if prompt is not None:
            return await self._generate(prompt)
        await self._writer.add_sources(())
        self._writer.add_text(self._no_answer_text)
        self._writer.add_usage(TokenUsage(0, 0))
        return Outcome(RunStatus.COMPLETED, finish_reason=NO_ANSWER)

    async def _prepare(self) -> Prompt | None:
        """Return the prompt, or None if nothing is found.

        Unused hits and history are local variables here, so they are freed before the model answers.
        """
        history = await self._load_history()
        hits = await self._search(await self._condense(history))
        return self._build_prompt(hits, history) if hits else None

    async def _load_history(self) -> list[ChatMessage]:
        limit = self._resources.settings.answering.chat_history_messages
        if not limit or not self._question.has_history:
            return []
        async with self._resources.pool.acquire() as conn:
            return await chat_messages.select_history(
                conn, self._workspace_id, self._question.session.id, before=self._question.message_id, limit=limit
            )

    async def _condense(self, history: Sequence[ChatMessage]) -> str:
        settings = self._resources.settings
        if not settings.answering.chat_condense_questions:
            return self._question.content
        budget_tokens = int(settings.answering.chat_context_tokens * HISTORY_SHARE)
        turns = fit_history(history, meter=self._meter, budget_tokens=budget_tokens)
        condensed = await condense(self._resources.llm, self._question.content, turns, model=self._model)
        if condensed.usage:
            self._writer.add_usage(condensed.usage)
        return condensed.query

    async def _search(self, query: str) -> list[SearchHit]:
        question = self._question
        request = SearchRequest(
            query=query,
            collection_ids=question.session.collection_ids,
            filters=question.filters,
            limit=question.limit,
        )
        found = await find_hits(self._resources, self._workspace_id, request, skips_unknown_collections=True)
        hits = found.hits
        min_score = self._resources.settings.answering.abstain_min_score
        best = max((hit.dense_score for hit in hits if hit.dense_score is not None), default=None)
        return [] if min_score is not None and (best is None or best < min_score) else hits

    def _build_prompt(self, hits: Sequence[SearchHit], history: Sequence[ChatMessage]) -> Prompt:
        return fit_prompt(
            self._question.content,
            hits,
            meter=self._meter,
            budget_tokens=self._resources.settings.answering.chat_context_tokens,
            history=history,
            instructions=self._question.session.instructions,
            no_answer_text=self._no_answer_text,
        )

    async def _generate(self, prompt: Prompt) -> Outcome:
        self._writer.model = self._model
        self._sources = prompt.sources
        parser = CitationParser()
        # The sources are saved while the model starts; no text is written before they are saved.
        saving = asyncio.create_task(self._writer.add_sources(number_sources(prompt.sources)))
        try:
            # Start the save before the CPU-bound work of building the model request.
            await asyncio.sleep(0)
            finish_reason = await self._stream(prompt, parser, saving)
        except WorkError:
            await saving
            await self._cite(parser.finish())
            raise
        finally:
            # The answer's end must not be written before its sources.
            await settle(saving)
        await self._cite(parser.finish())
        await self._judge()
        if finish_reason == STOP and self._abstains():
            finish_reason = NO_ANSWER
        return Outcome(RunStatus.COMPLETED, finish_reason=finish_reason)

    async def _judge(self) -> None:
        """Replace the word-based verdicts by the model's, if that is configured."""
        if self._resources.settings.answering.citation_support_method != "model":
            return
        judged = await judge_by_model(self._resources.llm, self._citations, self._claims, model=self._model)
        self._writer.replace_citations(judged.citations)
        if judged.usage:
            self._writer.add_usage(judged.usage)

    def _abstains(self) -> bool:
        return not self._cites_source and is_no_answer(self._writer.text, self._no_answer_text)

    async def _stream(self, prompt: Prompt, parser: CitationParser, saving: asyncio.Task[None]) -> str:
        finish_reason, usage = STOP, None
        # Ends an answer whose server ignores `max_tokens`.
        free_chars = self._resources.settings.answering.max_answer_chars
        try:
            async with aclosing(self._resources.llm.stream_chat(prompt.turns, model=self._model)) as deltas:
                async for delta in deltas:
                    await saving
                    if delta.text and not free_chars:
                        finish_reason = LENGTH
                        break
                    if text := delta.text[:free_chars]:
                        free_chars -= len(text)
                        self._writer.add_text(text)
                        await self._cite(parser.feed(text))
                    finish_reason = delta.finish_reason or finish_reason
                    usage = delta.usage or usage
        finally:
            self._report_usage(prompt, usage)
        return finish_reason

    def _report_usage(self, prompt: Prompt, usage: TokenUsage | None) -> None:
        """Report the token usage; estimate it if the server sent none, for example after an interruption."""
        text = self._writer.text
        if usage is None and text:
            usage = TokenUsage(self._meter.count_turns(prompt.turns), self._meter.count(text), is_estimated=True)
        if usage is not None:
            self._writer.add_usage(usage)

    async def _cite(self, markers: Iterable[Marker]) -> None:
        for marker in markers:
            hit = self._sources[marker.n - 1] if 1 <= marker.n <= len(self._sources) else None
            self._cites_source |= hit is not None
            # In a thread, because a long source takes milliseconds.
            citation = await asyncio.to_thread(cite, marker, hit)
            citation = await verify_citation(self._resources, self._workspace_id, citation)
            self._citations.append(citation)
            self._claims.append(marker.claim)
            self._writer.add_citation(citation)
