"""Removes the words of hidden documents from messages: those of documents that are being deleted, or are gone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ragsvc.sentences import MARKER, find_sentences

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from uuid import UUID

    from ragsvc.domain.chat.conversations import ChatMessage

# Takes the place of each code point of a blanked sentence, so that all offsets into the content remain valid.
BLANK = "\u2588"
# Such an answer says only that the documents do not tell.
NO_ANSWER = "no_answer"

_MARKER = re.compile(MARKER)
_LINE = re.compile(r"[^\n]+")
_BLANKED = re.compile(rf"{BLANK}(?:\s*{BLANK})*")


def redact_message(message: ChatMessage, hidden_document_ids: Collection[UUID]) -> ChatMessage:
    """Return the message without words of the hidden documents; applying it again changes nothing.

    Sentences that cite one of them are blanked, all but their `[n]`. Sentences without a citation belong to the next
    citation of their paragraph. An answer that rests on hidden documents alone is blanked as a whole, and so is one
    that cites nothing although it was given one of them.
    """
    hidden = frozenset(hidden_document_ids)
    sources = tuple(source.redacted() if source.document_id in hidden else source for source in message.sources)
    citations = tuple(one.redacted() if one.document_id in hidden else one for one in message.citations)
    if sources == message.sources and citations == message.citations:
        return message
    spans = [(0, len(message.content))] if _is_hidden_whole(message, hidden) else _find_hidden(message, hidden)
    content = _blank(message.content, spans)
    return replace(message, content=content, sources=sources, citations=citations, redacted=True)


def remove_blanked(content: str) -> str:
    """Return the content without its blanked sentences, for a model; empty if nothing else is left."""
    return _BLANKED.sub("", content).strip()


def _is_hidden_whole(message: ChatMessage, hidden: frozenset[UUID]) -> bool:
    if message.finish_reason == NO_ANSWER:
        return False
    cited = [one for one in message.citations if one.document_id is not None]
    return all(one.document_id in hidden or one.is_redacted for one in cited)


def _find_hidden(message: ChatMessage, hidden: frozenset[UUID]) -> Iterator[tuple[int, int]]:
    """Yield the spans of the sentences to blank; those of redacted citations have been blanked before."""
    cited = {one.message_offset for one in message.citations}
    withheld = {one.message_offset for one in message.citations if one.document_id in hidden and not one.is_redacted}
    pending: list[tuple[int, int]] = []
    end_of_last = 0
    for start, end in _split(message.content):
        if "\n" in message.content[end_of_last:start].replace("\n", "", 1):
            pending = []
        end_of_last = end
        pending.append((start, end))
        if not cited.isdisjoint(range(start, end)):
            if not withheld.isdisjoint(range(start, end)):
                yield from pending
            pending = []
    # The citation of the last words of an unfinished answer is missing.
    if message.status != "completed":
        yield from pending


def _split(content: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of the sentences with their list marks; the lines of an answer are not wrapped."""
    for line in _LINE.finditer(content):
        ends = [end for _start, end in find_sentences(line[0])]
        for left, right in zip([0, *ends[:-1]], [*ends[:-1], len(line[0])], strict=False):
            piece = line[0][left:right]
            if text := piece.strip():
                start = line.start() + left + piece.index(text)
                yield start, start + len(text)


def _blank(content: str, spans: Iterable[tuple[int, int]]) -> str:
    pieces, position = [], 0
    for start, end in spans:
        pieces.append(content[position:start])
        position = start
        for match in _MARKER.finditer(content, start, end):
            pieces += [BLANK * (match.start() - position), match[0]]
            position = match.end()
        pieces.append(BLANK * (end - position))
        position = end
    return "".join([*pieces, content[position:]])
