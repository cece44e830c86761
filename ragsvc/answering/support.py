"""How well a sentence of a source carries what an answer says: content words and numbers contained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ragsvc.answering.sentences import split_sentences

NUMBER_WEIGHT = 2.0
# A number that the source does not have makes a statement another one, whatever else it shares.
MISSING_NUMBER_CAP = 0.4
SHORTEST_STEM = 3

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# Scripts without blanks are compared by character.
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W\d_]+")
# Without `not`, `before`, `more` and the like: they turn a statement round.
_STOP_WORD_LIST = """
a about according all also an and any are as at be because been being both but by can could did do does each either else
for from had has have he her here him his how however i if in into is it its itself may me might must my of on once or
other our out shall she should since so some such than that the their them then there therefore these they this those
through thus to too upon us very was we were what when where whether which while who whom whose why will with within
would you your document documents source sources text says say states stated mentions described
"""
_STOP_WORDS = frozenset(_STOP_WORD_LIST.split())


@dataclass(frozen=True, slots=True)
class Terms:
    """What a sentence is about: its content words, stemmed, and its numbers."""

    words: frozenset[str]
    numbers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence of a source, `[start, end)` in code points of the source's text, and its support."""

    start: int
    end: int
    support: float


@lru_cache(maxsize=4096)
def read_terms(text: str) -> Terms:
    """Return the content words and numbers of a text."""
    return Terms(
        words=frozenset(_stem(word) for word in _WORD.findall(text.casefold()) if word not in _STOP_WORDS),
        numbers=frozenset(_normalise(number) for number in _NUMBER.findall(text)),
    )


def measure_support(claim: str, sentence: str) -> float:
    """Return from 0 to 1 how much of the claim the sentence contains; 0 for a claim without content."""
    wanted, given = read_terms(claim), read_terms(sentence)
    weight = len(wanted.words) + NUMBER_WEIGHT * len(wanted.numbers)
    if not weight:
        return 0.0
    shared = len(wanted.words & given.words) + NUMBER_WEIGHT * len(wanted.numbers & given.numbers)
    support = shared / weight
    return support if wanted.numbers <= given.numbers else min(support, MISSING_NUMBER_CAP)


def find_passage(claim: str, text: str) -> Passage | None:
    """Return the sentence of the text that supports the claim best, the first of equals; None for an empty text."""
    passages = [Passage(start, end, measure_support(claim, text[start:end])) for start, end in split_sentences(text)]
    return max(passages, key=lambda passage: passage.support, default=None)


def _stem(word: str) -> str:
    if word.endswith("ies") and len(word) > len("ies") + SHORTEST_STEM:
        return word.removesuffix("ies") + "y"
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            return word.removesuffix(ending)
    return word


def _normalise(number: str) -> str:
    # 1,000 and 1000 are one number, and so are 3.50 and 3.5; a comma before three digits is no decimal comma.
    whole = re.sub(r",(?=\d{3}(?:\D|$))", "", number).replace(",", ".")
    return whole.rstrip("0").rstrip(".") if whole.count(".") == 1 else whole
