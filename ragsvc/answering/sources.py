"""Selects the sources of an answer from search hits: no duplicates, overlapping neighbours joined, within a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from ragsvc.answering.citations.statements import read_words
from ragsvc.domain.chat.citations import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ragsvc.domain.search import SearchHit

SHINGLE_WORDS = 3
# A text that shares this proportion of its shingles with another one is a repetition, unless a number or negation
# differs.
REPEATED_SHARE = 0.9


def choose_sources(
    hits: Sequence[SearchHit], *, cost: Callable[[SearchHit], int], budget_tokens: int
) -> list[SearchHit]:
    """Return the hits that fit the budget, best first, without repetitions and with neighbours joined.

    The best hit is always included.
    """
    chosen: list[SearchHit] = []
    contents: list[_Content] = []
    left = budget_tokens
    for hit in hits:
        content = _Content.of(hit.text)
        size = cost(hit)
        if (chosen and size > left) or any(content.repeats(other) for other in contents):
            continue
        chosen.append(hit)
        contents.append(content)
        left -= size
    return join_neighbours(chosen)


def join_neighbours(hits: Sequence[SearchHit]) -> list[SearchHit]:
    """Return the hits with overlapping neighbours joined; each joined hit has the rank of its best part."""
    groups: list[list[int]] = []
    order = sorted(range(len(hits)), key=lambda rank: (hits[rank].document_id, hits[rank].build_id, hits[rank].ordinal))
    for rank in order:
        if groups and _follows(hits[groups[-1][-1]], hits[rank]):
            groups[-1].append(rank)
        else:
            groups.append([rank])
    return [_join([hits[rank] for rank in group]) for group in sorted(groups, key=min)]


def number_sources(hits: Sequence[SearchHit]) -> tuple[Source, ...]:
    """Return the sources as clients see them, numbered from 1 as in the prompt."""
    return tuple(
        Source(
            n=n,
            chunk_id=hit.chunk_id,
            document_id=hit.document_id,
            filename=hit.filename,
            page_first=hit.page_first,
            heading_path=hit.heading_path,
            score=hit.score,
        )
        for n, hit in enumerate(hits, start=1)
    )


@dataclass(frozen=True)
class _Content:
    """The words of a text, for comparison with another text."""

    words: tuple[str, ...]
    vocabulary: frozenset[str]

    @classmethod
    def of(cls, text: str) -> _Content:
        words = tuple(read_words(text))
        return cls(words, frozenset(words))

    def repeats(self, other: _Content) -> bool:
        """Return whether the other text has nearly all of these words, and every number and negation."""
        # A word that the other text lacks also starts a shingle that it lacks, unless it is too near the end to start
        # one. This cheap test rejects most pairs of texts.
        most_new_shingles = (1 - REPEATED_SHARE) * len(self.words)
        if len(self.vocabulary - other.vocabulary) > most_new_shingles + SHINGLE_WORDS - 1:
            return False
        if len(self.shingles & other.shingles) < REPEATED_SHARE * len(self.shingles):
            return False
        return all(word in other.vocabulary for word in self.vocabulary if _is_significant(word))

    @cached_property
    def shingles(self) -> frozenset[tuple[str, ...]]:
        """All sequences of SHINGLE_WORDS consecutive words."""
        shifted = (self.words[start:] for start in range(SHINGLE_WORDS))
        return frozenset(zip(*shifted, strict=False)) or frozenset({self.words})


def _is_significant(word: str) -> bool:
    return word[0].isdigit() or word in {"not", "no", "never", "without", "only", "except", "unless"}


def _follows(hit: SearchHit, following: SearchHit) -> bool:
    return (
        hit.build_id == following.build_id
        and hit.document_id == following.document_id
        and hit.ordinal + 1 == following.ordinal
        and hit.heading_path == following.heading_path
        and hit.char_start < following.char_start <= hit.char_end < following.char_end
    )


def _join(group: Sequence[SearchHit]) -> SearchHit:
    """Return consecutive hits as one hit with the id and score of the best one."""
    if len(group) == 1:
        return group[0]
    added = [after.text[before.char_end - after.char_start :] for before, after in pairwise(group)]
    best = max(group, key=lambda hit: hit.score)
    return replace(
        best,
        text=group[0].text + "".join(added),
        page_first=group[0].page_first,
        page_last=group[-1].page_last,
        page_spans=tuple(span for hit in group for span in hit.page_spans),
        char_start=group[0].char_start,
        char_end=group[-1].char_end,
        token_count=sum(hit.token_count for hit in group),
    )
