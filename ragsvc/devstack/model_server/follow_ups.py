"""Rewrites a follow-up as a standalone question, using words of the earlier questions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ragsvc.devstack.model_server.words import SHORTEST_WORDS, WORD, content_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Pronouns that refer to something earlier. `that` and `there` usually only do so at the end of a sentence.
_PRONOUN = re.compile(
    r"\b(?:it|its|they|them|their|this|these|those|he|him|his|she|her)\b|\b(?:that|there)\W*$", re.IGNORECASE
)
_GOES_ON = re.compile(r"(?:and|or|but|also|what about|how about)\b", re.IGNORECASE)
# Names: capitalised words inside a sentence, identifiers such as `HV021` or `max_connections`, and sequences of them.
_NAME = re.compile(
    r"(?:(?<=\w )(?!I\b)[A-Z][\w-]*"
    r"|\b(?=\w*[\d_])(?=[\d_]*[^\W\d_])[\w-]+)(?: (?:[A-Z][\w-]*|\d+)\b)*"
)


def restate(question: str, before: Sequence[str]) -> str:
    """Return the question, prefixed with the context that it needs to be understood on its own.

    For a pronoun, the prefix is the name mentioned last. For a question that brings a new name or only continues
    (`And in winter?`), it is the last full question without its names, plus the name mentioned last unless there is a
    new one. If nothing was named before, it is the last standalone question.
    """
    if _stands_alone(question):
        return question
    named = next((names for asked in reversed(before) if (names := _NAME.findall(asked))), [])
    if not named:
        return " ".join([*_last(asked for asked in before if _stands_alone(asked)), question])
    subject = [] if _NAME.search(question) else named
    is_clear = subject and _PRONOUN.search(question)
    topic = [] if is_clear else _last(rest for asked in before if content_words(rest := _NAME.sub("", asked)))
    return " ".join(" ".join([*topic, *subject, question]).split())


def _stands_alone(question: str) -> bool:
    is_long_enough = len(WORD.findall(question)) >= SHORTEST_WORDS
    return is_long_enough and not (_GOES_ON.match(question) or _PRONOUN.search(question))


def _last(questions: Iterable[str]) -> list[str]:
    """Return a list with only the last question, or an empty list."""
    return list(questions)[-1:]
