"""Extracts the content of a sentence: words, numbers with units, names, and each clause's negations and opposites."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ragsvc.answering.citations.vocabulary import NEGATIONS, NUMBER_WORDS, PRONOUNS, SIDES, STOP_WORDS, SYNONYMS, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST_STEM = 3
# Maximum number of words between a number and its unit, as in `three to five working days`.
UNIT_DISTANCE = 4
# Above this share of capitalized words, as in headings or German, capitals do not mark names.
MAX_CAPITALIZED_SHARE = 0.4
MIN_WORDS = 4

# Numbers; unit signs; single characters of scripts without spaces; words.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|°[CF]\b|[%€$£¥]|[぀-ヿ㐀-鿿가-힯]|[^\W\d_]+(?:['’][^\W\d_]+)*")  # noqa: RUF001 - typographic apostrophes are intended
_CLAUSE_END = re.compile(
    r"[,;:]\s|\s[–—-]\s|\s(?=(?:and|but|while|whereas|although|though|because|so|if|unless|when|except|or|aber|und|oder)(?:\s|\Z))"  # noqa: RUF001 - dashes of all lengths are intended
)
_BETWEEN_NUMBER_AND_UNIT = frozenset({"to", "or", "and", "working", "calendar", "business", "full", "about", "more"})
_NAME = re.compile(r"[^\W\d_]*[A-ZÄÖÜ]\S*")


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a sentence that can be negated independently of the others.

    `sides` are (pair, side) for each word that belongs to a pair of opposites. `last_words` are the content words and
    numbers in reverse order, so that the predicate usually comes first.
    """

    last_words: tuple[str, ...]
    words: frozenset[str]
    negations: int
    sides: frozenset[tuple[int, int]]

    @property
    def is_negated(self) -> bool:
        """Whether the clause contains a negation."""
        return self.negations > 0


@dataclass(frozen=True, slots=True)
class Statement:
    """The content of a sentence, for comparison with another one.

    `units` are (dimension, unit) for every unit in it, `quantities` are (number, dimension, unit) for every number with
    a unit.
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
        """Whether the sentence has neither content words nor numbers."""
        return not (self.words or self.numbers)


@lru_cache(maxsize=4096)
def read_statement(text: str) -> Statement:
    """Return the statement of a sentence."""
    tokens = read_words(text)
    numbers = frozenset(token for token in tokens if token[0].isdigit())
    return Statement(
        words=frozenset(_read_content(tokens)),
        numbers=numbers,
        quantities=frozenset(_read_quantities(tokens)),
        units=frozenset((UNITS[token][1], UNITS[token][0]) for token in tokens if _is_unit(token)),
        names=frozenset(_read_names(text)),
        has_pronoun=not PRONOUNS.isdisjoint(tokens),
        clauses=frozenset(_read_clause(text[start:end]) for start, end in find_clauses(text)),
    )


def find_clauses(text: str) -> Iterator[tuple[int, int]]:
    """Yield the span `[start, end)` of each clause of a sentence; each clause can be negated independently."""
    start = 0
    for match in _CLAUSE_END.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def read_words(text: str) -> list[str]:
    """Return the words, numbers and signs of a text in order, case-folded and with numbers normalized."""
    return [word for token in _TOKEN.findall(text) for word in _spell(token)]


def stem(word: str) -> str:
    """Return the stem of a word, after replacing synonyms."""
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


# Cached, since all sources of a question are read word by word before the model is called, and words recur.
@lru_cache(maxsize=16_384)
def _spell(token: str) -> tuple[str, ...]:
    word = token.casefold().replace("’", "'")  # noqa: RUF001 - the typographic apostrophe is intended
    if token[0].isdigit():
        return (_normalise(token),)
    if word == "cannot":
        return ("can", "not")
    if word.endswith("n't"):
        return tuple(filter(None, (word.removesuffix("n't"), "not")))
    return (NUMBER_WORDS.get(word.removesuffix("'s").removesuffix("s'"), word.removesuffix("'s")),)


def _normalise(number: str) -> str:
    # 1,000 equals 1000 and 3.50 equals 3.5. A comma before three digits is a thousands separator.
    whole = re.sub(r",(?=\d{3}(?:\D|$))", "", number).replace(",", ".")
    return whole.rstrip("0").rstrip(".") if whole.count(".") == 1 else whole


def _read_content(tokens: Sequence[str]) -> Iterator[str]:
    for token in tokens:
        if not token[0].isdigit() and token not in STOP_WORDS and token not in NEGATIONS:
            yield UNITS[token][0] if _is_unit(token) else stem(token)


def _is_unit(token: str) -> bool:
    # A single letter is a unit only after a number.
    return token in UNITS and (len(token) > 1 or not token.isalpha())


def _read_quantities(tokens: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for index, token in enumerate(tokens):
        if not token[0].isdigit():
            continue
        if index and tokens[index - 1] in "€$£¥":
            unit, dimension = UNITS[tokens[index - 1]]
            yield token, dimension, unit
        for following in tokens[index + 1 : index + 1 + UNIT_DISTANCE]:
            if following in UNITS:
                unit, dimension = UNITS[following]
                yield token, dimension, unit
                break
            if not following[0].isdigit() and following not in _BETWEEN_NUMBER_AND_UNIT:
                break


def _read_names(text: str) -> Iterator[str]:
    words = text.split()
    inner = words[1:]
    capitalized = [word for word in inner if _NAME.match(word)]
    if len(words) > MIN_WORDS and len(capitalized) > MAX_CAPITALIZED_SHARE * len(inner):
        return
    for word in capitalized:
        for token in _TOKEN.findall(word):
            if _NAME.match(token):
                yield from _read_content([word for word in _spell(token) if word not in UNITS])


def _read_clause(text: str) -> Clause:
    tokens = read_words(text)
    content = [word for token in tokens for word in ([token] if token[0].isdigit() else _read_content([token]))]
    return Clause(
        last_words=tuple(reversed(content)),
        words=frozenset(content),
        negations=_count_negations(tokens),
        sides=frozenset(SIDES[token] for token in tokens if token in SIDES),
    )


def _count_negations(tokens: Sequence[str]) -> int:
    # `neither this nor that` is one negation.
    return sum(word in NEGATIONS for word in tokens if word != "nor") or int("nor" in tokens)
