"""Writes text so that Postgres's parser of full text finds the words in it, in documents and in queries alike.

By itself it takes `/etc/nginx`, `input/output`, `config.yaml` and `end.Next` for one word each, drops what stands
between `<` and `>`, reads `covid-19` as a negative number, and in scripts without blanks takes a clause for a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What glues words together; a point between digits belongs to the number: 3.14, 192.168.0.1.
_GLUE = re.compile(r"[<>/@]|[-+](?=\d)|\.(?=[^\W\d])|(?<!\d)\.(?=\d)")
# A name that its version is glued to: Python3.11, v1.2.3.
_NAME_END = re.compile(r"[A-Za-z](?=\d+\.\d)")
# Thai, Lao, Burmese, Khmer, Japanese, Chinese and Korean; Korean has blanks, but endings grow onto its words.
_WITHOUT_BLANKS = re.compile(
    r"[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]+"
)


def spell_words(text: str) -> str:
    """Return the text with blanks between words; scripts without blanks as their characters and pairs of them."""
    spelled = _NAME_END.sub(r"\g<0> ", _GLUE.sub(" ", text))
    return spelled if spelled.isascii() else _WITHOUT_BLANKS.sub(_spell_run, spelled)


def _spell_run(run: re.Match[str]) -> str:
    return f" {' '.join(_iterate_grams(run[0]))} "


def _iterate_grams(characters: str) -> Iterator[str]:
    """Yield each character, behind it the pair that it begins: what is looked for may be a single one."""
    for place, character in enumerate(characters):
        yield character
        if place + 1 < len(characters):
            yield characters[place : place + 2]
