"""What judging needs to know about a language: its grammatical words, numbers, opposites and stems."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import snowballstemmer

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(Enum):
    """What a token contributes to a sentence."""

    CONTENT = "content"
    NUMBER = "number"
    FUNCTION = "function"
    PRONOUN = "pronoun"
    PREPOSITION = "preposition"
    COORDINATOR = "coordinator"
    BOUNDARY = "boundary"
    NEGATION = "negation"
    # Makes the statement depend on something: if, unless, only, except.
    CONDITION = "condition"
    # Makes it somebody's statement, a plan, a possibility or a question.
    HEDGE = "hedge"
    # Modal verbs, quantifiers and comparisons: both sentences must have the same ones.
    MARKER = "marker"


@dataclass(frozen=True, eq=False)
class Language:
    """The words of a language, each list as one string. A phrase with `_` is matched with spaces, before single words.

    `markers` and `synonyms` map a key to the words that mean it; `opposites` are pairs of such word lists.
    """

    code: str
    function: str
    pronouns: str
    prepositions: str
    coordinators: str
    negations: str
    conditions: str
    hedges: str
    markers: Mapping[str, str]
    numbers: Mapping[str, str]
    opposites: tuple[tuple[str, str], ...] = ()
    synonyms: Mapping[str, str] = field(default_factory=dict)
    # Prefixes that are written together with the next word, such as the Arabic article.
    stemmer: str | None = None

    @cached_property
    def kinds(self) -> dict[str, tuple[Kind, str]]:
        """The kind and key of each grammatical word or phrase."""
        kinds: dict[str, tuple[Kind, str]] = {}
        lists = (
            (Kind.FUNCTION, self.function),
            (Kind.PREPOSITION, self.prepositions),
            (Kind.PRONOUN, self.pronouns),
            (Kind.COORDINATOR, self.coordinators),
            (Kind.HEDGE, self.hedges),
            (Kind.CONDITION, self.conditions),
            (Kind.NEGATION, self.negations),
        )
        for kind, words in lists:
            kinds |= {word.replace("_", " "): (kind, word) for word in words.split()}
        for key, words in self.markers.items():
            kinds |= {word.replace("_", " "): (Kind.MARKER, key) for word in words.split()}
        for value, words in self.numbers.items():
            kinds |= {word.replace("_", " "): (Kind.NUMBER, value) for word in words.split()}
        return kinds

    @cached_property
    def phrases(self) -> tuple[tuple[str, ...], ...]:
        """The words of each phrase of several words, longest first."""
        return tuple(sorted((tuple(word.split()) for word in self.kinds if " " in word), key=len, reverse=True))

    @cached_property
    def keys(self) -> dict[str, str]:
        """The shared key of words with one meaning."""
        return {word: key for key, words in self.synonyms.items() for word in words.split()}

    @cached_property
    def antonyms(self) -> dict[str, frozenset[str]]:
        """The stems of each stem's opposites."""
        found: dict[str, set[str]] = {}
        for left, right in self.opposites:
            sides = [{self.stem(word) for word in side.split()} for side in (left, right)]
            for side, other in (sides, sides[::-1]):
                for word in side:
                    found.setdefault(word, set()).update(other)
        return {word: frozenset(others) for word, others in found.items()}

    def stem(self, word: str) -> str:
        """Return the stem of a word, or the shared key of its synonyms."""
        return self.keys.get(word) or _stem(self.stemmer, word)


# Stemming is slow in pure Python, and words recur.
@lru_cache(maxsize=32_768)
def _stem(stemmer: str | None, word: str) -> str:
    if stemmer is None:
        return word
    stem: str = snowballstemmer.stemmer(stemmer).stemWord(word)
    return stem
