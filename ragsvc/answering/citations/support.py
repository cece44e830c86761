"""Finds the sentence of a source that an answer's claim rests on, and estimates whether it supports the claim.

The score is the share of the claim's content words and numbers that the sentence contains. It is capped if the sentence
contradicts the claim: by a different number or unit, a name that is missing from the source up to that sentence, a
negation or an opposite. The rules were developed on `tests/answering/citations/citation_pairs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.answering.citations.judging.verdict import judge
from ragsvc.answering.citations.statements import read_statement
from ragsvc.domain.chat.citations import Support, Verdict
from ragsvc.sentences import split_sentences

if TYPE_CHECKING:
    from ragsvc.answering.citations.statements import Clause, Statement

NUMBER_WEIGHT = 2.0
# Upper bound on the support of a claim that the sentence contradicts.
CONTRADICTION_CAP = 0.4
# Text before a sentence that is searched for the name that its pronoun stands for, so that the time does not grow with
# the square of a source's length.
MAX_CONTEXT_CHARS = 1000
# Sentences to judge, best score first, and how far behind the best one their score can be.
MAX_JUDGED = 3
JUDGED_RANGE = 0.25


@dataclass(frozen=True, slots=True)
class Passage:
    """The span `[start, end)` of a sentence in a source's text, in code points, and its support."""

    start: int
    end: int
    support: Support


def measure_support(claim: str, sentence: str, *, context: str = "") -> float:
    """Return how well a sentence supports a claim, from 0 to 1; 0 if the claim has no content.

    `context` is the text of the source before the sentence.
    """
    claimed, given = read_statement(claim), read_statement(sentence)
    weight = len(claimed.words) + NUMBER_WEIGHT * len(claimed.numbers)
    if not weight:
        return 0.0
    shared = len(claimed.words & given.words) + NUMBER_WEIGHT * len(claimed.numbers & given.numbers)
    support = shared / weight
    return CONTRADICTION_CAP if support > CONTRADICTION_CAP and _contradicts(claimed, given, context) else support


def find_passage(claim: str, text: str) -> Passage | None:
    """Return the sentence that best supports the claim, the first one if several are equal; None for an empty text."""
    scored = [
        (measure_support(claim, text[start:end], context=text[max(0, start - MAX_CONTEXT_CHARS) : start]), start, end)
        for start, end in split_sentences(text)
    ]
    if not scored:
        return None
    best = sorted(scored, key=lambda one: -one[0])[:MAX_JUDGED]
    judged = [
        Passage(start, end, Support(round(score, 3), judge(claim, text[start:end], context=text[:start], source=text)))
        for score, start, end in best
        if score >= best[0][0] - JUDGED_RANGE
    ]
    return next((one for one in judged if one.support.verdict is Verdict.SUPPORTED), judged[0])


def _contradicts(claimed: Statement, given: Statement, context: str) -> bool:
    return (
        not claimed.numbers <= given.numbers
        or _has_other_units(claimed, given)
        or _has_other_names(claimed, given, context)
        or _is_reversed(claimed, given)
    )


def _has_other_units(claimed: Statement, given: Statement) -> bool:
    for number, dimension, unit in claimed.quantities:
        units = {other for count, measure, other in given.quantities if (count, measure) == (number, dimension)}
        if units and unit not in units:
            return True
    dimensions = {dimension for dimension, _unit in given.units}
    return any(unit not in given.units and unit[0] in dimensions for unit in claimed.units)


def _has_other_names(claimed: Statement, given: Statement, context: str) -> bool:
    missing = claimed.names - given.words
    if not missing:
        return False
    return not (given.has_pronoun and missing <= read_statement(context).words)


def _is_reversed(claimed: Statement, given: Statement) -> bool:
    """Return whether the sentence negates a clause of the claim about the same subject, or states the opposite."""
    return any(_is_reversed_clause(clause, claimed, given) for clause in claimed.clauses - given.clauses)


def _is_reversed_clause(clause: Clause, claimed: Statement, given: Statement) -> bool:
    closest = _closest_clauses(clause, claimed, given)
    return bool(closest) and all(
        _reverses(clause, other) and not _is_negated_jointly(clause, claimed, other) for other in closest
    )


def _closest_clauses(clause: Clause, claimed: Statement, given: Statement) -> list[Clause]:
    """Return the clauses of the sentence that match best.

    Only clauses that contain the last word which the sentence shares with `clause` are considered. Of these, the ones
    that share the most words with `clause` match best.

    Ties are broken by the words shared with the whole claim, because its subject may be in another clause.
    """
    if not clause.words:
        return [other for other in given.clauses if not other.words]
    for word in clause.last_words:
        candidates = [other for other in given.clauses if word in other.words]
        if candidates:
            content = claimed.words | claimed.numbers
            shares = [(len(other.words & clause.words), len(other.words & content)) for other in candidates]
            most = max(shares)
            return [other for other, share in zip(candidates, shares, strict=True) if share == most]
    return []


def _reverses(clause: Clause, other: Clause) -> bool:
    opposes = any((pair, 1 - side) in other.sides and (pair, side) not in other.sides for pair, side in clause.sides)
    return opposes != _negates_differently(clause, other)


def _negates_differently(clause: Clause, other: Clause) -> bool:
    # The same words require the same number of negations: `guests who do not pay must not enter`. With other words,
    # `without` or `lack` can replace one of two negations.
    if clause.words <= other.words:
        return clause.negations != other.negations
    return clause.is_negated != other.is_negated


def _is_negated_jointly(clause: Clause, claimed: Statement, other: Clause) -> bool:
    """Return whether the clause shares a negated predicate with another clause of the claim.

    `cats and dogs are not allowed` splits into `cats` and `dogs are not allowed`; the negation applies to both.
    """
    if clause.is_negated or not other.is_negated:
        return False
    shared, beyond = clause.words & other.words, other.words - clause.words
    return any(part.is_negated and part.words & beyond and not part.words & shared for part in claimed.clauses)
