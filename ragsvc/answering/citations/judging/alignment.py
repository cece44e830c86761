"""Aligns the content of a claim with that of a sentence, in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ragsvc.answering.citations.judging.languages.language import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.answering.citations.judging.tokens import Token

# Longest phrase, in content words, that can stand at the other end of the sentence.
MAX_MOVED = 4
# A comma that separates clauses is followed by a word that joins them; these signs separate them on their own.
_VERB_ENDS = frozenset("てでしりれずきいみびえけせめが")
_STRONG_BOUNDARIES = frozenset(";:()–—؛。")  # noqa: RUF001 - dashes of all lengths are intended


@dataclass(frozen=True, slots=True)
class Alignment:
    """A claim's content tokens matched with those of a sentence, in the order of the sentence.

    `pairs` are (index in the claim's content, index in the sentence's tokens); `missing` are the indexes of the claim's
    content without a match.
    """

    claim: tuple[Token, ...]
    sentence: tuple[Token, ...]
    pairs: tuple[tuple[int, int], ...]
    missing: tuple[int, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every content token of the claim is in the sentence, in the same order."""
        return not self.missing

    def gap_of(self, index: int) -> range:
        """Return the indexes of the sentence's tokens between the matches around a claim's unmatched token."""
        before = max((there for here, there in self.pairs if here < index), default=-1)
        after = min((there for here, there in self.pairs if here > index), default=len(self.sentence))
        return range(before + 1, after)


def align(claim: Sequence[Token], sentence: tuple[Token, ...]) -> Alignment:
    """Return the longest alignment; an adverbial phrase may stand at the other end of the sentence."""
    content = tuple(token for token in claim if token.is_content)
    there = [index for index, token in enumerate(sentence) if token.is_content]
    best = _align_in_order(content, sentence, there)
    if best.is_complete or not _has_all(content, sentence):
        return best
    for moved in _move_phrases(claim):
        other = _align_in_order(moved, sentence, there)
        if other.is_complete:
            return other
    return best


def _has_all(content: Sequence[Token], sentence: Sequence[Token]) -> bool:
    wanted = Counter((token.kind, token.key) for token in content)
    return not wanted - Counter((token.kind, token.key) for token in sentence)


def _align_in_order(content: tuple[Token, ...], sentence: tuple[Token, ...], there: Sequence[int]) -> Alignment:
    """Find a longest common subsequence by dynamic programming."""
    rows = [[0] * (len(there) + 1) for _ in range(len(content) + 1)]
    for i in range(len(content) - 1, -1, -1):
        row, below = rows[i], rows[i + 1]
        token = content[i]
        for j in range(len(there) - 1, -1, -1):
            if _is_same(token, sentence[there[j]]):
                row[j] = below[j + 1] + 1
            else:
                row[j] = max(below[j], row[j + 1])
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(content) and j < len(there):
        if _is_same(content[i], sentence[there[j]]) and rows[i][j] == rows[i + 1][j + 1] + 1:
            pairs.append((i, there[j]))
            i, j = i + 1, j + 1
        elif rows[i + 1][j] >= rows[i][j + 1]:
            i += 1
        else:
            j += 1
    matched = {here for here, _ in pairs}
    missing = tuple(index for index in range(len(content)) if index not in matched)
    return Alignment(content, sentence, tuple(pairs), missing)


def _is_same(one: Token, other: Token) -> bool:
    return one.kind is other.kind and one.key == other.key


def _move_phrases(claim: Sequence[Token]) -> list[tuple[Token, ...]]:
    """Return the claim's content with a phrase that begins with a preposition moved to the other end."""
    moved: list[tuple[Token, ...]] = []
    tokens = [token for token in claim if token.kind is not Kind.FUNCTION]
    content_before = 0
    first = next((index for index, token in enumerate(tokens) if token.is_content), 0)
    content = tuple(token for token in tokens if token.is_content)
    if tokens and _begins_phrase(tokens[0]) and first > 0:
        moved.extend(content[size:] + content[:size] for size in range(1, min(MAX_MOVED, len(content) - 1) + 1))
    for index, token in enumerate(tokens):
        if index and _begins_phrase(token) and 0 < len(content) - content_before <= MAX_MOVED and content_before:
            moved.append(content[content_before:] + content[:content_before])
        content_before += token.is_content
    return moved


def _begins_phrase(token: Token) -> bool:
    return token.kind in {Kind.PREPOSITION, Kind.MARKER}


def dropped_spans(alignment: Alignment, *, ignored: int | None = None) -> list[range]:
    """Return the runs of the sentence between matches that contain content which the claim leaves out."""
    matched = sorted(there for _, there in alignment.pairs)
    if ignored is not None:
        matched = sorted([*matched, ignored])
    edges = [-1, *matched, len(alignment.sentence)]
    runs = (range(before + 1, after) for before, after in pairwise(edges))
    return [run for run in runs if any(alignment.sentence[index].is_content for index in run)]


def is_droppable(sentence: Sequence[Token], run: range) -> bool:
    """Return whether the rest of the sentence still holds without this run: it is a joined clause of its own."""
    tokens = [sentence[index] for index in run]
    inner = [token for token in tokens if token.kind is not Kind.FUNCTION]
    if inner[-1].key == "、":
        return _is_joined_japanese(tokens)
    if run.start == 0:
        return _ends_with_joint(inner)
    if run.stop == len(sentence):
        return _begins_with_joint(inner)
    return _ends_with_joint(inner) or _is_joined_phrase(inner) or _is_parenthesis(inner)


def _ends_with_joint(run: Sequence[Token]) -> bool:
    rest = list(run)
    while rest and rest[-1].kind is Kind.PREPOSITION:
        rest.pop()
    if not rest:
        return False
    last = rest[-1]
    if last.kind is Kind.COORDINATOR:
        return True
    return last.key in _STRONG_BOUNDARIES


def _is_joined_phrase(run: Sequence[Token]) -> bool:
    """Return whether the run is a second subject or object: `adults and children under 12 pay`."""
    return run[0].kind is Kind.COORDINATOR and not any(
        token.kind in {Kind.NEGATION, Kind.BOUNDARY, Kind.COORDINATOR} for token in run[1:]
    )


def _is_parenthesis(run: Sequence[Token]) -> bool:
    return run[0].key in {"(", "–", "—"} and run[-1].key in {")", "–", "—"}  # noqa: RUF001 - dashes of all lengths


def _is_joined_japanese(run: Sequence[Token]) -> bool:
    """Return whether a run before a comma is a clause: it has a subject, and ends in a verb and not in a topic."""
    texts = [token.text for token in run if token.text != "、"]
    return bool(texts) and texts[-1][-1] in _VERB_ENDS and any(token.key == "subject" for token in run)


def _begins_with_joint(run: Sequence[Token]) -> bool:
    first = run[0]
    if first.kind is Kind.COORDINATOR or first.key in _STRONG_BOUNDARIES:
        return True
    if first.kind is not Kind.BOUNDARY or len(run) == 1:
        return False
    return run[1].kind not in {Kind.PREPOSITION, Kind.MARKER, Kind.CONDITION, Kind.NEGATION}
