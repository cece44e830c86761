"""Extracts the content words that the built-in answerer compares."""

from __future__ import annotations

import re

# A text with fewer words is not treated as a sentence.
SHORTEST_WORDS = 3
# The parts of a `snake_case` name count as words.
WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    WORD.findall(
        "a about an and are as at be been but by can could did do does for from had has have how i if in is it its me"
        " my of on or our should so that the their them there these they this those to was we were what when where"
        " which who why will with would you your"
    )
)


def content_words(text: str) -> frozenset[str]:
    """Return the content words of a text, stemmed."""
    return frozenset(_stem(word) for word in WORD.findall(text.lower()) if word not in _STOP_WORDS)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 3:  # noqa: PLR2004  # the stem is still meaningful
            return word.removesuffix(ending)
    return word
