"""Finds `[n]` markers in a streamed answer, and the quote that best supports each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.answering.citations.statements import read_statement
from ragsvc.answering.citations.support import find_passage
from ragsvc.domain.chat.citations import Citation
from ragsvc.sentences import MARKER, find_stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.domain.search import SearchHit

# An answer without sentence ends is read in pieces of this length.
LONGEST_SENTENCE_CHARS = 2000
# Where a sentence ends can depend on at most this many characters after it.
LOOKAHEAD_CHARS = 100
_WINDOW_CHARS = LONGEST_SENTENCE_CHARS + LOOKAHEAD_CHARS

# Brackets in code, such as `row[1]`, are not citations.
_FENCE = re.compile(r"\s*(?:```[^`\n]*(?:\n|\Z)|~~~)")
_CODE = re.compile(r"(?<!`)(`++).+?(?<!`)\1(?!`)", re.DOTALL)

_MARKER = re.compile(MARKER)
# The lines of an answer are not wrapped, so a line break always ends a sentence.
_LINE_END = re.compile(r"\n+")


@dataclass(frozen=True, slots=True)
class Marker:
    """A `[n]` in an answer: its offset in code points, and the words of the answer that its source must support."""

    n: int
    offset: int
    claim: str


class CitationParser:
    """Reads an answer delta by delta; the result does not depend on where deltas end.

    A marker is returned once its sentence has ended, since its claim may follow it.
    """

    def __init__(self) -> None:
        self._tail = ""
        self._offset = 0
        # No sentence of the tail ends before this offset.
        self._scanned = 0
        self._begins_line = True
        self._is_fenced = False

    def feed(self, delta: str) -> list[Marker]:
        """Return the markers of the sentences that this delta completes."""
        self._tail += delta
        markers: list[Marker] = []
        start = 0
        while length := self._next_length(self._tail[start : start + _WINDOW_CHARS]):
            markers.extend(self._read(self._tail[start : start + length]))
            start += length
            self._scanned = 0
        self._tail = self._tail[start:]
        return markers

    def finish(self) -> list[Marker]:
        """Return the markers of the last sentence."""
        sentence, self._tail = self._tail, ""
        return self._read(sentence)

    def _next_length(self, window: str) -> int | None:
        """Return the length of the first sentence, or None while further text could change it.

        Only text inside the window counts. Otherwise the result would depend on how the answer is cut into deltas.
        """
        line = _LINE_END.search(window, self._scanned)
        end = line.start() if line else len(window)
        stop = find_stop(window, 0, end, scan_from=self._scanned)
        if stop and stop[1] < end:
            return min(stop[1], LONGEST_SENTENCE_CHARS)
        if line:
            return min(line.end(), LONGEST_SENTENCE_CHARS)
        self._scanned = stop[0] if stop else end
        return LONGEST_SENTENCE_CHARS if end == _WINDOW_CHARS else None

    def _read(self, sentence: str) -> list[Marker]:
        markers = [] if self._is_code(sentence) else list(_read_markers(sentence, self._offset))
        self._offset += len(sentence)
        return markers

    def _is_code(self, sentence: str) -> bool:
        """Return whether this piece is part of a code block; each of its fences is a separate line."""
        begins_line, self._begins_line = self._begins_line, sentence.endswith("\n")
        if begins_line and _FENCE.match(sentence):
            self._is_fenced = not self._is_fenced
            return True
        return self._is_fenced


def cite(marker: Marker, hit: SearchHit | None) -> Citation:
    """Return a citation for a marker, not verified yet, with the best quote from its source.

    Without a source the citation has no document and no span.
    """
    if hit is None or (passage := find_passage(marker.claim, hit.text)) is None:
        return Citation(n=marker.n, message_offset=marker.offset)
    start = hit.char_start + passage.start
    return Citation(
        n=marker.n,
        message_offset=marker.offset,
        document_id=hit.document_id,
        filename=hit.filename,
        version=hit.version,
        page_first=_page_at(hit, start),
        heading_path=hit.heading_path,
        char_start=start,
        char_end=hit.char_start + passage.end,
        quote=hit.text[passage.start : passage.end],
        support=passage.support,
    )


def _page_at(hit: SearchHit, offset: int) -> int | None:
    pages = [span.page for span in hit.page_spans if span.char_start <= offset]
    return pages[-1] if pages else hit.page_first


def _read_markers(sentence: str, offset: int) -> Iterator[Marker]:
    """Yield the markers of a sentence with their claims; adjacent markers form a group and share one claim.

    The claim consists of the words since the previous group. For the last group, it includes the words after it too.
    """
    readable = _CODE.sub(lambda code: " " * len(code[0]), sentence) if "`" in sentence else sentence
    groups = _group_adjacent(list(_MARKER.finditer(readable)), sentence)
    start = 0
    for index, group in enumerate(groups):
        is_last = index == len(groups) - 1
        claim = sentence[start : group[0].start()] + (sentence[group[-1].end() :] if is_last else "")
        if read_statement(claim).is_empty:
            claim = _MARKER.sub("", sentence)
        for match in group:
            for number in match[0].strip("[]").split(","):
                yield Marker(n=int(number), offset=offset + match.start(), claim=" ".join(claim.split()))
        start = group[-1].end()


def _group_adjacent(matches: list[re.Match[str]], sentence: str) -> list[list[re.Match[str]]]:
    groups: list[list[re.Match[str]]] = []
    for match in matches:
        if groups and not sentence[groups[-1][-1].end() : match.start()].strip(" \t,;"):
            groups[-1].append(match)
        else:
            groups.append([match])
    return groups
