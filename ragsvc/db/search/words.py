"""Writes text so that Postgres's parser of full text finds the words in it, in documents and in queries alike.

By itself it takes `/etc/nginx`, `input/output`, `config.yaml` and `end.Next` for one word each, drops what stands
between `<` and `>`, reads `covid-19` as a negative number, and in scripts without blanks takes a clause for a word.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# What glues words together; a point between digits belongs to the number: 3.14, 192.168.0.1.
_GLUE = re.compile(r"[<>/@]|[-+](?=\d)|\.(?=[^\W\d])|(?<!\d)\.(?=\d)")
# A name that its version is glued to: Python3.11, v1.2.3.
_NAME_END = re.compile(r"[A-Za-z](?=\d+\.\d)")
# Thai, Lao, Burmese, Khmer, Japanese, Chinese and Korean; Korean has blanks, but endings grow onto its words.
_WITHOUT_BLANKS = re.compile(
    r"[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]+"
)


def spell_words(text: str) -> str:
    """Return a document's text with blanks between words; scripts without them as their characters and all pairs."""
    return _spell(text, lambda run: [*run, *pairwise(run)])


def spell_query(text: str) -> str:
    """Return a query with blanks between words; of several characters without blanks only the pairs are looked for."""
    return _spell(text, lambda run: pairwise(run) if len(run) > 1 else run)


def _spell(text: str, take: Callable[[str], Iterable[Iterable[str]]]) -> str:
    spelled = _NAME_END.sub(r"\g<0> ", _GLUE.sub(" ", text))
    if spelled.isascii():
        return spelled
    return _WITHOUT_BLANKS.sub(lambda run: f" {' '.join(map(''.join, take(run[0])))} ", spelled)
