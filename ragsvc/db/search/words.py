"""Separates the words of documents and queries for Postgres's full-text parser.

The parser itself treats `/etc/nginx`, `input/output`, `config.yaml` and `end.Next` as one word each, drops text between
`<` and `>`, reads the `-19` of `covid-19` as a number, and treats a clause as one word in scripts without spaces.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Characters that join words. A point between digits belongs to the number: 3.14, 192.168.0.1.
_JOINER = re.compile(r"[<>/@]|[-+](?=\d)|\.(?=[^\W\d])|(?<!\d)\.(?=\d)")
# The end of a name that is followed directly by a version: Python3.11, v1.2.3.
_NAME_END = re.compile(r"[A-Za-z](?=\d+\.\d)")
# Thai, Lao, Burmese, Khmer, Japanese, Chinese and Korean. Korean has spaces, but attaches suffixes to its words.
_WITHOUT_SPACES = re.compile(
    r"[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]+"
)


def separate_words(text: str) -> str:
    """Return a text with spaces between words; scripts without spaces become characters and pairs of characters."""
    return _separate(text, lambda run: [*run, *pairwise(run)])


def separate_query(text: str) -> str:
    """Return a query with spaces between words; scripts without spaces become pairs of characters."""
    return _separate(text, lambda run: pairwise(run) if len(run) > 1 else run)


def _separate(text: str, split_run: Callable[[str], Iterable[Iterable[str]]]) -> str:
    separated = _NAME_END.sub(r"\g<0> ", _JOINER.sub(" ", text))
    if separated.isascii():
        return separated
    return _WITHOUT_SPACES.sub(lambda run: f" {' '.join(map(''.join, split_run(run[0])))} ", separated)
