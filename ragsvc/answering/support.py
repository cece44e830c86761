"""How well a sentence of a source carries what an answer says.

Support is the share of the claim's content words and numbers that the sentence contains. What turns a statement into
another one, whatever else it shares, caps it: a number or a unit that the sentence does not have, a name that the
source does not have there, a negation or an opposite. `tests/answering/citation_pairs.py` is what this was built on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragsvc.answering.sentences import split_sentences
from ragsvc.answering.statements import read_statement

if TYPE_CHECKING:
    from ragsvc.answering.statements import Clause, Statement

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
    return min(support, CONTRADICTION_CAP) if _contradicts(wanted, given, context) else support


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
    """Tell whether the part of the sentence that the claim is about denies it, or says the opposite."""
    return any(_turns(wanted, clause) for clause in _closest_clauses(wanted, given))


def _closest_clauses(wanted: Statement, given: Statement) -> list[Clause]:
    """Return the clause that has what the claim says last, and of several the one that shares most with it."""
    for word in wanted.last_words:
        having = [clause for clause in given.clauses if word in clause.words]
        if having:
            return [max(having, key=lambda clause: len(clause.words & wanted.words))]
    return []


def _turns(wanted: Statement, clause: Clause) -> bool:
    sides = {side for part in wanted.clauses for side in part.sides}
    denies = any(part.is_negated for part in wanted.clauses)
    opposes = any((pair, 1 - side) in clause.sides and (pair, side) not in clause.sides for pair, side in sides)
    return opposes != (denies != clause.is_negated)
