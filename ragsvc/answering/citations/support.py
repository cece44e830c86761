"""How well a sentence of a source carries what an answer says.

Support is the share of the claim's content words and numbers that the sentence contains. What turns a statement into
another one, whatever else it shares, caps it: a number or a unit that the sentence does not have, a name that the
source does not have there, a negation or an opposite. It was built on `tests/answering/citations/citation_pairs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.answering.citations.statements import read_statement
from ragsvc.sentences import split_sentences

if TYPE_CHECKING:
    from ragsvc.answering.citations.statements import Clause, Statement

NUMBER_WEIGHT = 2.0
# No more support has a claim that contradicts the sentence.
CONTRADICTION_CAP = 0.4


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence of a source, `[start, end)` in code points of the source's text, and its support."""

    start: int
    end: int
    support: float


def measure_support(claim: str, sentence: str, *, context: str = "") -> float:
    """Return from 0 to 1 how well the sentence, with the context before it, carries the claim; 0 for an empty one."""
    wanted, given = read_statement(claim), read_statement(sentence)
    weight = len(wanted.words) + NUMBER_WEIGHT * len(wanted.numbers)
    if not weight:
        return 0.0
    shared = len(wanted.words & given.words) + NUMBER_WEIGHT * len(wanted.numbers & given.numbers)
    support = shared / weight
    return CONTRADICTION_CAP if support > CONTRADICTION_CAP and _contradicts(wanted, given, context) else support


def find_passage(claim: str, text: str) -> Passage | None:
    """Return the sentence of the text that supports the claim best, the first of equals; None for an empty text."""
    passages = [
        Passage(start, end, measure_support(claim, text[start:end], context=text[:start]))
        for start, end in split_sentences(text)
    ]
    return max(passages, key=lambda passage: passage.support, default=None)


def _contradicts(wanted: Statement, given: Statement, context: str) -> bool:
    return (
        not wanted.numbers <= given.numbers
        or _has_other_units(wanted, given)
        or _has_other_names(wanted, given, context)
        or _is_turned(wanted, given)
    )


def _has_other_units(wanted: Statement, given: Statement) -> bool:
    for number, dimension, unit in wanted.quantities:
        units = {other for same, along, other in given.quantities if (same, along) == (number, dimension)}
        if units and unit not in units:
            return True
    dimensions = {dimension for dimension, _unit in given.units}
    return any(place not in given.units and place[0] in dimensions for place in wanted.units)


def _has_other_names(wanted: Statement, given: Statement, context: str) -> bool:
    missing = wanted.names - given.words
    if not missing:
        return False
    return not (given.has_pronoun and missing <= read_statement(context).words)


def _is_turned(wanted: Statement, given: Statement) -> bool:
    """Tell whether the sentence denies a clause of the claim or says its opposite, where it speaks of the same."""
    return any(_is_turned_clause(clause, wanted, given) for clause in wanted.clauses - given.clauses)


def _is_turned_clause(clause: Clause, wanted: Statement, given: Statement) -> bool:
    closest = _closest_clauses(clause, wanted, given)
    return bool(closest) and all(
        _turns(clause, other) and not _is_denied_together(clause, wanted, other) for other in closest
    )


def _closest_clauses(clause: Clause, wanted: Statement, given: Statement) -> list[Clause]:
    """Return the clauses that have what this one says last, and of several those that share most with it.

    Of equals it is those that share most with the whole claim: its subject may stand in another clause.
    """
    if not clause.words:
        return [other for other in given.clauses if not other.words]
    for word in clause.last_words:
        having = [other for other in given.clauses if word in other.words]
        if having:
            said = wanted.words | wanted.numbers
            shares = [(len(other.words & clause.words), len(other.words & said)) for other in having]
            most = max(shares)
            return [other for other, share in zip(having, shares, strict=True) if share == most]
    return []


def _turns(clause: Clause, other: Clause) -> bool:
    opposes = any((pair, 1 - side) in other.sides and (pair, side) not in other.sides for pair, side in clause.sides)
    return opposes != _denies_otherwise(clause, other)


def _denies_otherwise(clause: Clause, other: Clause) -> bool:
    # Who says it in the same words denies as often: `guests who do not pay must not enter`. In other words `without` or
    # `lack` may stand for one of the two.
    if clause.words <= other.words:
        return clause.negations != other.negations
    return clause.is_negated != other.is_negated


def _is_denied_together(clause: Clause, wanted: Statement, other: Clause) -> bool:
    """Tell whether the claim denies of several what the other clause denies: `cats and dogs are not allowed`.

    The first of these clauses has no verb; what the other one says of its subject stands in one that denies.
    """
    if clause.is_negated or not other.is_negated:
        return False
    shared, beyond = clause.words & other.words, other.words - clause.words
    return any(part.is_negated and part.words & beyond and not part.words & shared for part in wanted.clauses)
