"""Makes a follow-up question one that is understood alone, out of words of the questions before it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ragsvc.devstack.model_server.words import SHORTEST_WORDS, WORD, content_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What stands for something said before. `that` and `there` are mostly other things, but at the end.
_PRONOUN = re.compile(
    r"\b(?:it|its|they|them|their|this|these|those|he|him|his|she|her)\b|\b(?:that|there)\W*$", re.IGNORECASE
)
_GOES_ON = re.compile(r"(?:and|or|but|also|what about|how about)\b", re.IGNORECASE)
# Words with a capital that begin no sentence, and such as `HV021` or `max_connections`, with what follows like them.
_NAME = re.compile(
    r"(?:(?<=\w )(?!I\b)[A-Z][\w-]*"
    r"|\b(?=\w*[\d_])(?=[\d_]*[^\W\d_])[\w-]+)(?: (?:[A-Z][\w-]*|\d+)\b)*"
)


def restate(question: str, before: Sequence[str]) -> str:
    """Return the question, with what it leans on in front of it if it is not understood alone.

    A pronoun stands for the name that was last spoken of. What brings a name of its own, or only goes on (`And in
    winter?`), is asked like the last question that says something, which gets the newest name. Where nothing was named,
    the last question that stands alone is put in front.
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
    """Return the last question, as a list of it or of nothing."""
    return list(questions)[-1:]
