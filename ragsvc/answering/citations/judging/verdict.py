"""The verdict on a claim: what a sentence of the source says about it, as far as words can tell.

A claim is supported if the sentence has all of its content in the same order, says nothing in between that the claim
leaves out, and agrees in negations, conditions, modal verbs, quantities and in whose statement it is. It is
contradicted if all of this holds but for one number, one opposite or one negation. Everything else is unknown, because
words alone cannot tell. The lists of words and these rules were developed on `tests/answering/citations/judged/tuning`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ragsvc.answering.citations.judging.alignment import align, dropped_spans, is_droppable
from ragsvc.answering.citations.judging.detection import detect_languages
from ragsvc.answering.citations.judging.languages.language import Kind
from ragsvc.answering.citations.judging.tokens import read_tokens
from ragsvc.domain.chat.citations import Verdict
from ragsvc.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragsvc.answering.citations.judging.alignment import Alignment
    from ragsvc.answering.citations.judging.languages.language import Language
    from ragsvc.answering.citations.judging.tokens import Token

# With less content, almost any sentence would support the claim.
MIN_CONTENT = 2
# Longer sentences are lists or tables, whose order and joints say little.
MAX_TOKENS = 120
# Characters of the text before the sentence that can name what its pronoun stands for.
CONTEXT_CHARS = 400
# Characters of a source that show its language.
LANGUAGE_CHARS = 1000
# The source may say `every employee` where the claim says `employees`.
_IMPLIED = frozenset({"all"})


def judge(claim: str, sentence: str, *, context: str = "", source: str = "") -> Verdict:
    """Return whether the sentence states the claim or its opposite.

    `context` is the text before the sentence. The `source` around it, if given, shows the language of a sentence that
    is too short to do so.
    """
    possible, languages = detect_languages(claim), detect_languages(sentence)
    if len(languages) > 1:
        wider = detect_languages(source[:LANGUAGE_CHARS] or f"{claim} {sentence}")
        languages = tuple(language for language in languages if language in wider)
    verdicts = {_judge_in(language, claim, sentence, context) for language in languages if language in possible}
    return verdicts.pop() if len(verdicts) == 1 else Verdict.UNKNOWN


def _judge_in(language: Language, claim: str, sentence: str, context: str) -> Verdict:
    claimed, given = read_tokens(claim, language), read_tokens(sentence, language)
    if max(len(claimed), len(given)) > MAX_TOKENS or _is_open(claimed) or not _agree_on_conditions(claimed, given):
        return Verdict.UNKNOWN
    claimed = _without_named_subject(claimed, given, language, context)
    if sum(token.is_content for token in claimed) < MIN_CONTENT:
        return Verdict.UNKNOWN
    alignment = align(claimed, given)
    if alignment.is_complete:
        return _judge_complete(claimed, alignment)
    if len(alignment.missing) == 1:
        return _judge_replaced(claimed, alignment, language)
    return Verdict.UNKNOWN


def _is_open(claimed: Sequence[Token]) -> bool:
    return any(token.key == "?" for token in claimed)


def _agree_on_conditions(claimed: Sequence[Token], given: Sequence[Token]) -> bool:
    return all(_keys(claimed, kind) == _keys(given, kind) for kind in (Kind.CONDITION, Kind.HEDGE))


def _judge_complete(claimed: Sequence[Token], alignment: Alignment) -> Verdict:
    kept = _kept_tokens(alignment)
    if kept is None or not _agree_on_markers(claimed, kept):
        return Verdict.UNKNOWN
    negations = [sum(token.kind is Kind.NEGATION for token in tokens) for tokens in (claimed, kept)]
    if negations[0] == negations[1]:
        return Verdict.SUPPORTED
    return Verdict.CONTRADICTED if sorted(negations) == [0, 1] else Verdict.UNKNOWN


def _judge_replaced(claimed: Sequence[Token], alignment: Alignment, language: Language) -> Verdict:
    """Judge a claim of which one number or word is not in the sentence."""
    index = alignment.missing[0]
    token = alignment.claim[index]
    gap = [there for there in alignment.gap_of(index) if alignment.sentence[there].is_content]
    rivals = [there for there in gap if _excludes(token, alignment.sentence[there], language)]
    if len(rivals) != 1:
        return Verdict.UNKNOWN
    kept = _kept_tokens(alignment, replaced=rivals[0])
    if kept is None or not _agree_on_markers(claimed, kept):
        return Verdict.UNKNOWN
    negations = [sum(token.kind is Kind.NEGATION for token in tokens) for tokens in (claimed, kept)]
    return Verdict.CONTRADICTED if negations == [0, 0] else Verdict.UNKNOWN


def _excludes(token: Token, other: Token, language: Language) -> bool:
    if token.kind is Kind.NUMBER:
        return other.kind is Kind.NUMBER
    return token.kind is other.kind and other.key in language.antonyms.get(token.key, ())


def _kept_tokens(alignment: Alignment, *, replaced: int | None = None) -> list[Token] | None:
    """Return the sentence without the clauses that the claim leaves out; None if it leaves out more than clauses."""
    dropped: set[int] = set()
    for run in dropped_spans(alignment, ignored=replaced):
        if not is_droppable(alignment.sentence, run):
            return None
        dropped.update(run)
    return [token for index, token in enumerate(alignment.sentence) if index not in dropped]


def _agree_on_markers(claimed: Sequence[Token], kept: Sequence[Token]) -> bool:
    here, there = (Counter(token.key for token in tokens if token.kind is Kind.MARKER) for tokens in (claimed, kept))
    return not here - there and set(there - here) <= _IMPLIED


def _keys(tokens: Sequence[Token], kind: Kind) -> set[str]:
    return {token.key for token in tokens if token.kind is kind}


def _without_named_subject(
    claimed: tuple[Token, ...], given: tuple[Token, ...], language: Language, context: str
) -> tuple[Token, ...]:
    """Leave out the claim's subject where the sentence has a pronoun for the subject of the sentence before it."""
    opening = next((token for token in given if token.kind is not Kind.FUNCTION), None)
    if opening is None or opening.kind is not Kind.PRONOUN or language.code == "ja":
        return claimed
    present = {token.key for token in given if token.is_content}
    subject: list[int] = []
    for index, token in enumerate(claimed):
        if token.is_content:
            if token.key in present:
                break
            subject.append(index)
        elif token.kind is not Kind.FUNCTION:
            break
    before = context[-CONTEXT_CHARS:]
    spans = list(split_sentences(before))
    if not subject or not spans:
        return claimed
    start, end = spans[-1]
    named = [token.key for token in read_tokens(before[start:end], language) if token.is_content]
    if [claimed[index].key for index in subject] != named[: len(subject)]:
        return claimed
    return tuple(token for index, token in enumerate(claimed) if index not in subject)
