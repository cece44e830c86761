"""The canonical form of text: NFC, LF line endings, no characters that cannot be stored."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby
from typing import TYPE_CHECKING

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

# Part of the embedding cache key: increment it whenever `normalise` returns different text for the same input.
NORMALISATION_VERSION = 1
# More combining marks in a row than any language uses (https://unicode.org/reports/tr15/#Stream_Safe_Text_Format).
# A match contains no letters, but can contain symbols.
MANY_MARKS = re.compile(r"[^\w\s\x00-\x7f]{31,}")


def strip_unstorable(text: str) -> str:
    """Return the text without NULs, which Postgres cannot store, and lone surrogates, which UTF-8 cannot encode."""
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
    """Return the canonical form of the text. Idempotent."""
    text = strip_unstorable(text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else unicodedata.normalize("NFC", MANY_MARKS.sub(_order_marks, text))


def _order_marks(run: re.Match[str]) -> str:
    """Return the same marks in canonical order; `unicodedata` would sort them in quadratic time."""
    characters = "".join(unicodedata.normalize("NFD", character) for character in run[0])
    groups = groupby(characters, key=_is_mark)
    return "".join("".join(sorted(group, key=unicodedata.combining)) for _, group in groups)


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) > 0


def has_text(text: str) -> bool:
    """Return whether the text contains a printable character other than white space."""
    return not text.isspace() and any(character.isprintable() and not character.isspace() for character in text)


def join_spans(spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the span from the first to the last of the given spans; empty ones count only if all are empty."""
    filled = [(start, end) for start, end in spans if end > start] or spans
    return filled[0][0], filled[-1][1]


class TextBuilder:
    """Joins pieces into one canonical text and returns the offsets of each.

    Every piece is normalised separately. The separators never compose with the characters after them, so the joined
    text is canonical too, and offsets that were returned stay valid.
    """

    def __init__(self, max_chars: int) -> None:
        self.length = 0
        self.max_chars = max_chars
        self._parts: list[str] = []

    def append(self, piece: str, *, separator: str = "\n") -> tuple[int, int]:
        """Append a piece and return its code points `[start, end)`.

        An empty piece adds nothing, not even a separator. The separator must consist of newlines or a tab.

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
