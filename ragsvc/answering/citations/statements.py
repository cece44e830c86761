"""Reads a sentence as what it states: its content words, its numbers with their units, its names and its turns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ragsvc.answering.citations.vocabulary import NEGATIONS, NUMBER_WORDS, PRONOUNS, SIDES, STOP_WORDS, SYNONYMS, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST_STEM = 3
# A unit may stand so many words behind its number: `three to five working days`.
UNIT_DISTANCE = 4
# Where more of the words begin with a capital, capitals make no names: a heading, or German.
MOST_CAPITALS = 0.4
FEWEST_WORDS = 4

# Numbers; signs of units; scripts without blanks by character; words.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|°[CF]\b|[%€$£¥]|[぀-ヿ㐀-鿿가-힯]|[^\W\d_]+(?:['’][^\W\d_]+)*")  # noqa: RUF001  # it is meant
_CLAUSE_END = re.compile(
    r"[,;:]\s|\s[–—-]\s|\s(?=(?:and|but|while|whereas|although|though|because|so|if|unless|when|except|or|aber|und|oder)(?:\s|\Z))"  # noqa: RUF001  # dashes of all lengths are meant
)
_BETWEEN_NUMBER_AND_UNIT = frozenset({"to", "or", "and", "working", "calendar", "business", "full", "about", "more"})
_NAME = re.compile(r"[^\W\d_]*[A-ZÄÖÜ]\S*")


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a sentence with a turn of its own: its words, how often it denies, and its sides of opposites.

    `last_words` are its content words and numbers from the last one on: what it says of its subject mostly comes first.
    """

    last_words: tuple[str, ...]
    words: frozenset[str]
    negations: int
    sides: frozenset[tuple[int, int]]

    @property
    def is_negated(self) -> bool:
        """Whether it denies at all."""
        return self.negations > 0


@dataclass(frozen=True, slots=True)
class Statement:
    """What a sentence states.

    `units` holds dimension and unit of every unit in it, `quantities` those of its numbers: number, dimension, unit.
    """

    words: frozenset[str]
    numbers: frozenset[str]
    quantities: frozenset[tuple[str, str, str]]
    units: frozenset[tuple[str, str]]
    names: frozenset[str]
    has_pronoun: bool
    clauses: frozenset[Clause]

    @property
    def is_empty(self) -> bool:
        """Whether it states nothing."""
        return not (self.words or self.numbers)


@lru_cache(maxsize=4096)
def read_statement(text: str) -> Statement:
    """Return what a sentence states."""
    tokens = read_words(text)
    numbers = frozenset(token for token in tokens if token[0].isdigit())
    found = frozenset(_read_quantities(tokens))
    return Statement(
        words=frozenset(_read_content(tokens)),
        numbers=numbers,
        quantities=found,
        units=frozenset((UNITS[token][1], UNITS[token][0]) for token in tokens if _is_unit(token)),
        names=frozenset(_read_names(text)),
        has_pronoun=not PRONOUNS.isdisjoint(tokens),
        clauses=frozenset(_read_clause(text[start:end]) for start, end in find_clauses(text)),
    )


def find_clauses(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the clauses of a sentence stand, `[start, end)`: parts that each may deny or not."""
    start = 0
    for match in _CLAUSE_END.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def read_words(text: str) -> list[str]:
    """Return the words, numbers and signs of a text in their order: words in lower case, numbers in one form."""
    return [word for token in _TOKEN.findall(text) for word in _spell(token)]


def stem(word: str) -> str:
    """Return what the forms of a word share."""
    word = SYNONYMS.get(word, word)
    if word.endswith("ies") and len(word) > len("ies") + SHORTEST_STEM:
        return word.removesuffix("ies") + "y"
    for ending in ("ations", "ation", "ingly", "ing", "ely", "ed", "ly", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            rest = word.removesuffix(ending)
            return rest[:-1] if ending in {"ing", "ed"} and _is_doubled(rest) else rest
    return word


def _is_doubled(rest: str) -> bool:
    return len(rest) > SHORTEST_STEM and rest[-1] == rest[-2] and rest[-1] not in "lsz"


# A question's sources are read word by word before its model is asked, and a language has few words.
@lru_cache(maxsize=16_384)
def _spell(token: str) -> tuple[str, ...]:
    word = token.casefold().replace("’", "'")  # noqa: RUF001  # it is meant
    if token[0].isdigit():
        return (_normalise(token),)
    if word == "cannot":
        return ("can", "not")
    if word.endswith("n't"):
        return tuple(filter(None, (word.removesuffix("n't"), "not")))
    return (NUMBER_WORDS.get(word.removesuffix("'s").removesuffix("s'"), word.removesuffix("'s")),)


def _normalise(number: str) -> str:
    # 1,000 and 1000 are one number, and so are 3.50 and 3.5; a comma before three digits is no decimal comma.
    whole = re.sub(r",(?=\d{3}(?:\D|$))", "", number).replace(",", ".")
    return whole.rstrip("0").rstrip(".") if whole.count(".") == 1 else whole


def _read_content(tokens: Sequence[str]) -> Iterator[str]:
    for token in tokens:
        if not token[0].isdigit() and token not in STOP_WORDS and token not in NEGATIONS:
            yield UNITS[token][0] if _is_unit(token) else stem(token)


def _is_unit(token: str) -> bool:
    # A single letter is one only behind a number.
    return token in UNITS and (len(token) > 1 or not token.isalpha())


def _read_quantities(tokens: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for place, token in enumerate(tokens):
        if not token[0].isdigit():
            continue
        if place and tokens[place - 1] in "€$£¥":
            unit, dimension = UNITS[tokens[place - 1]]
            yield token, dimension, unit
        for following in tokens[place + 1 : place + 1 + UNIT_DISTANCE]:
            if following in UNITS:
                unit, dimension = UNITS[following]
                yield token, dimension, unit
                break
            if not following[0].isdigit() and following not in _BETWEEN_NUMBER_AND_UNIT:
                break


def _read_names(text: str) -> Iterator[str]:
    words = text.split()
    inner = words[1:]
    capitals = [word for word in inner if _NAME.match(word)]
    if len(words) > FEWEST_WORDS and len(capitals) > MOST_CAPITALS * len(inner):
        return
    for word in capitals:
        for token in _TOKEN.findall(word):
            if _NAME.match(token):
                yield from _read_content([word for word in _spell(token) if word not in UNITS])


def _read_clause(text: str) -> Clause:
    tokens = read_words(text)
    said = [word for token in tokens for word in ([token] if token[0].isdigit() else _read_content([token]))]
    return Clause(
        last_words=tuple(reversed(said)),
        words=frozenset(said),
        negations=_count_negations(tokens),
        sides=frozenset(SIDES[token] for token in tokens if token in SIDES),
    )


def _count_negations(tokens: Sequence[str]) -> int:
    # `Neither this nor that` denies once.
    return sum(word in NEGATIONS for word in tokens if word != "nor") or int("nor" in tokens)
