"""Where the sentences of a source stand: what a citation may quote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A longer piece is a table, a listing or a text without full stops; nobody reads that as a quote.
LONGEST_CHARS = 400

# A blank line, or a line that begins a list item or a heading, or is a row: it has a tab, or a comma or semicolon that
# no blank follows, as no prose has. And where the line of a heading ends.
_BLOCK_END = re.compile(
    r"\n(?=[ \t]*(?:\n|[-*•#|>]|\d+[.)]\s)|[^\n]*(?:\t|[^\W\d][,;]\w|[,;][^\W\d]|,,|;;))|(?m:^#{1,6}[ \t][^\n]*\n)"
)
_STOP = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s+[^\sa-zß-öø-ÿ])|[。！？]+[”』」）]*")  # noqa: RUF001  # they are meant
# What ends with a full stop and no sentence: abbreviations, initials, the number of a list item.
_NO_STOP = re.compile(
    r"(?:^|[\s(\[\"“])(?:[A-Z]|(?:e\.g|i\.e|cf|vs|etc|dr|mr|mrs|ms|prof|st|no|nr|fig|eq|sec|ch|pp?|vol|approx|inc|ltd)"
    r"|\d{1,2})\.$",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"(?:[-*•#|>]+|\d+[.)])[ \t]\s*")


def split_sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield where sentences, list items and headings stand, `[start, end)` in code points, without white space around.

    What is longer than LONGEST_CHARS is cut at line breaks, else at blanks.
    """
    for block_start, block_end in _cut(text, 0, len(text), [match.end() for match in _BLOCK_END.finditer(text)]):
        stops = [match.end() for match in _STOP.finditer(text, block_start, block_end) if not _is_short(text, match)]
        for start, end in _cut(text, block_start, block_end, stops):
            yield from _shorten(text, start, end)


def _cut(text: str, start: int, end: int, places: list[int]) -> Iterator[tuple[int, int]]:
    for left, right in zip([start, *places], [*places, end], strict=True):
        trimmed_left, trimmed_right = _trim(text, left, right)
        if trimmed_left < trimmed_right:
            yield trimmed_left, trimmed_right


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    markup = _MARKUP.match(text, start, end)
    return (markup.end() if markup else start), end


def _is_short(text: str, stop: re.Match[str]) -> bool:
    if stop[0] != ".":
        return False
    line_start = text.rfind("\n", 0, stop.start()) + 1
    return bool(_NO_STOP.search(text, max(line_start, stop.start() - 12), stop.start() + 1))


def _shorten(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > LONGEST_CHARS:
        window_end = start + LONGEST_CHARS
        place = max(text.rfind("\n", start, window_end), start)
        if place == start:
            place = max(text.rfind(" ", start, window_end), start)
        if place == start:
            place = window_end
        yield from _cut(text, start, place, [])
        start = _trim(text, place, end)[0]
    if start < end:
        yield start, end
