"""Makes one answer: looks for sources, asks the model, and cites what it says."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ragsvc.answering.citations import CitationParser, cite
from ragsvc.answering.prompt import NOTHING_FOUND, build_turns, choose_sources, number_sources
from ragsvc.answering.retrieval import SearchRequest, find_hits
from ragsvc.answering.run_writer import Outcome
from ragsvc.db import canonical_text, chat_messages, documents
from ragsvc.errors import WorkError
from ragsvc.models.chat import Citation, RunStatus, TokenUsage
from ragsvc.models.documents import DocumentStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from ragsvc.answering.citations import Marker
    from ragsvc.answering.filters import Filter
    from ragsvc.answering.run_writer import RunWriter
    from ragsvc.llm.chat import ChatTurn
    from ragsvc.models.chat import ChatSession
    from ragsvc.models.search import SearchHit
    from ragsvc.resources import Resources

NO_SOURCES = "no_sources"


@dataclass(frozen=True, slots=True)
class Question:
    """What a run answers, and where it looks."""

    session: ChatSession
    message_id: UUID
    content: str
    filters: Filter | None
    limit: int


class Answerer:
    """Writes the answer to one question."""

    def __init__(self, resources: Resources, question: Question, writer: RunWriter) -> None:
        self._resources = resources
        self._question = question
        self._writer = writer
        self._workspace_id = question.session.workspace_id
        self._hits: Sequence[SearchHit] = ()

    async def answer(self) -> Outcome:
        """Write the sources, the text and its citations; return how the answer ended.

        Raises:
            WorkError: a model failed, or the run is not this process's any more; the text so far stays.
        """
        settings = self._resources.settings
        hits = await self._look()
        self._hits = choose_sources(hits, budget_tokens=settings.chat_context_tokens)
        await self._writer.add_sources(number_sources(self._hits))
        if not self._hits:
            self._writer.add_text(NOTHING_FOUND)
            self._writer.usage = TokenUsage(0, 0)
            return Outcome(RunStatus.COMPLETED, finish_reason=NO_SOURCES)
        return await self._ask(await self._build_turns())

    async def _look(self) -> list[SearchHit]:
        question = self._question
        request = SearchRequest(
            query=question.content,
            collection_ids=question.session.collection_ids,
            filters=question.filters,
            limit=question.limit,
        )
        hits = await find_hits(self._resources, self._workspace_id, request, skips_unknown_collections=True)
        least = self._resources.settings.abstain_min_score
        best = max((hit.dense_score for hit in hits if hit.dense_score is not None), default=None)
        return [] if least is not None and (best is None or best < least) else hits

    async def _build_turns(self) -> list[ChatTurn]:
        question = self._question
        history = []
        if limit := self._resources.settings.chat_history_messages:
            async with self._resources.pool.acquire() as conn:
                history = await chat_messages.select_history(
                    conn, self._workspace_id, question.session.id, before=question.message_id, limit=limit
                )
        return build_turns(question.content, self._hits, history=history, instructions=question.session.instructions)

    async def _ask(self, turns: Sequence[ChatTurn]) -> Outcome:
        model = self._writer.model = self._question.session.model or self._resources.settings.chat_model
        parser = CitationParser()
        finish_reason = "stop"
        try:
            async with aclosing(self._resources.models.stream_chat(turns, model=model)) as deltas:
                async for delta in deltas:
                    if delta.text:
                        self._writer.add_text(delta.text)
                        await self._cite(parser.feed(delta.text))
                    finish_reason = delta.finish_reason or finish_reason
                    self._writer.usage = delta.usage or self._writer.usage
        except WorkError:
            await self._cite(parser.finish())
            raise
        await self._cite(parser.finish())
        return Outcome(RunStatus.COMPLETED, finish_reason=finish_reason)

    async def _cite(self, markers: Iterable[Marker]) -> None:
        for marker in markers:
            hit = self._hits[marker.n - 1] if 1 <= marker.n <= len(self._hits) else None
            citation = cite(marker, hit)
            self._writer.add_citation(await self._verify(citation))

    async def _verify(self, citation: Citation) -> Citation:
        """Look up the quote where it is said to stand; of a document that is being deleted nothing is told."""
        if citation.document_id is None or citation.char_start is None or citation.version is None:
            return citation
        async with self._resources.pool.acquire() as conn:
            document = await documents.select_document(conn, self._workspace_id, citation.document_id)
            if document is None or document.status is DocumentStatus.DELETING:
                return replace(citation, heading_path=(), quote="")
            found = await canonical_text.select_text_slice(
                conn,
                self._workspace_id,
                citation.document_id,
                version=citation.version,
                start=citation.char_start,
                end=citation.char_end,
            )
        stands_there = found is not None and found.text == citation.quote
        is_supported = citation.support >= self._resources.settings.citation_support_min
        return replace(citation, verified=stands_there and is_supported)
