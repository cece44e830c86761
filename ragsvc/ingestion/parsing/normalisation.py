"""The canonical form of text: NFC, lines that end in LF, nothing that cannot be stored."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby
from typing import TYPE_CHECKING

from ragsvc.errors import DocumentErrorCode, DocumentRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

# Part of the embedding cache's key: raise it whenever `normalise` gives other text for the same input.
NORMALISATION_VERSION = 1
# More marks on one letter than any writing has (https://unicode.org/reports/tr15/#Stream_Safe_Text_Format). No letter
# stands in such a run, yet symbols may.
MANY_MARKS = re.compile(r"[^\w\s\x00-\x7f]{31,}")


def strip_unstorable(text: str) -> str:
    """Return the text without NUL and lone surrogates, which neither UTF-8 nor Postgres can hold."""
    if "\0" in text:
        text = text.replace("\0", "")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode(errors="ignore").decode()
    return text


def normalise(text: str) -> str:
    """Return the canonical form; normalising that again changes nothing."""
    text = strip_unstorable(text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else unicodedata.normalize("NFC", MANY_MARKS.sub(_order_marks, text))


def _order_marks(run: re.Match[str]) -> str:
    """Return the same marks in their canonical order: `unicodedata` sorts them in the square of their number."""
    characters = "".join(unicodedata.normalize("NFD", character) for character in run[0])
    groups = groupby(characters, key=_is_mark)
    return "".join("".join(sorted(group, key=unicodedata.combining)) for _, group in groups)


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) > 0


def has_text(text: str) -> bool:
    """Tell whether there is anything to read: a character that is neither white space nor invisible."""
    return not text.isspace() and any(character.isprintable() and not character.isspace() for character in text)


def join_spans(spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return where pieces of a text stand together; empty ones, which may stand anywhere, add nothing."""
    filled = [(start, end) for start, end in spans if end > start] or spans
    return filled[0][0], filled[-1][1]


class TextBuilder:
    """Joins pieces to one canonical text and knows where each begins.

    Every piece is normalised by itself. Only separators that never compose with what follows stand between them,
    so the joined text is canonical too and no offset that was handed out ever shifts.
    """

    def __init__(self, max_chars: int) -> None:
        self.length = 0
        self.max_chars = max_chars
        self._parts: list[str] = []

    def append(self, piece: str, *, separator: str = "\n") -> tuple[int, int]:
        """Append a piece and return the code points `[start, end)` where it stands.

        An empty piece adds nothing, no separator either. The separator is made of newlines or a tab.

        Raises:
            DocumentRejected: `limit_exceeded`.
        """
        text = normalise(piece)
        if not text:
            return self.length, self.length
        if self.length:
            self._parts.append(separator)
            self.length += len(separator)
        start = self.length
        self._parts.append(text)
        self.length += len(text)
        if self.length > self.max_chars:
            raise DocumentRejected(
                DocumentErrorCode.LIMIT_EXCEEDED, f"the text is longer than {self.max_chars:,} characters"
            )
        return start, self.length

    def build(self) -> str:
        """Return the text."""
        return "".join(self._parts)
