"""Splits sources and answers into sentences, the units that citations quote and markers refer to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Longer pieces are tables, listings or text without punctuation, and too long to read as a quote.
MAX_SENTENCE_CHARS = 400

# A citation marker of an answer: `[1]`, `[1, 3]`.
MARKER = r"\[[0-9]{1,3}(?:[ \t]*,[ \t]*[0-9]{1,3})*+\]"

# The start of a list item, heading or quote is followed by a space, since a line of prose can begin with `**very**`,
# `--force`, `#4711` or `>5`. A table row begins and ends with a bar, unlike `| grep`.
_LINE_MARK = r"•|(?:[-*]|#{1,6}|>++)[ \t]|\d++[.)]\s"
_ROW = r"\|[^\n]*\|[ \t]*+(?=\n|\Z)"
_RULE = r"[-*=]++[ \t]*+(?=\n|\Z)"
# A row of values without bars contains a tab, or a comma or semicolon without a space after it, unlike prose.
_VALUES = r"[^\n]*(?:\t|[^\W\d][,;]\w|[,;][^\W\d]|,,|;;)"
# A line break before an empty line or one of the above, or after a heading, a table row or a rule.
_BLOCK_END = re.compile(
    rf"\n(?=[ \t]*+(?:\n|{_LINE_MARK}|{_ROW}|{_RULE})|{_VALUES})|^(?:#{{1,6}}[ \t][^\n]*|[ \t]*+(?:{_ROW}|{_RULE}))\n",
    re.MULTILINE,
)
# A full stop and the markers after it, before a possible start of a sentence or at the end of the text, where a marker
# can be incomplete. Possessive quantifiers try each run of stops only once, in case a text consists of nothing else.
_STOP = re.compile(
    rf"(?<![.!?])(?P<mark>[.!?]++[\"'”’)\]]*+)(?P<markers>(?:[ \t]*+{MARKER})*+)"  # noqa: RUF001 - typographic characters are intended
    r"(?:\s*+(?:\[[0-9, \t]*+)?+\Z|\s++(?=[^\sa-zß-öø-ÿ|]))"
    rf"|(?<![。！？])[。！？]++[”』」）]*+(?:[ \t]*+{MARKER})*+(?:\s*+(?:\[[0-9, \t]*+)?+\Z|\s*+)"  # noqa: RUF001 - typographic characters are intended
)
# Ends with a full stop that does not end a sentence: abbreviations, initials, numbers of list items.
_ABBREVIATION = re.compile(
    r"(?<![^\s(\[\"“])(?:[A-Z]|(?:e\.g|i\.e|cf|vs|etc|dr|mr|mrs|ms|prof|st|no|nr|fig|eq|sec|ch|pp?|vol|approx|inc|ltd)"
    r"|\d{1,2})\.$",
    re.IGNORECASE,
)
_MAX_ABBREVIATION_CHARS = 8
_MARKUP = re.compile(r"(?:[-*•#|>]{1,9}|\d{1,9}[.)])[ \t]\s*")


def split_sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans `[start, end)` of sentences, list items and headings in code points, without surrounding space.

    Pieces longer than MAX_SENTENCE_CHARS are cut at line breaks, or else at spaces.
    """
    for start, end in find_sentences(text):
        yield from _shorten(text, start, end)


def find_sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield spans like `split_sentences`, but do not cut long pieces."""
    for start, end in _cut(text, 0, len(text), [match.end() for match in _BLOCK_END.finditer(text)]):
        is_row = text.endswith("|", start, end)
        yield from _cut(text, start, end, [] if is_row else list(_find_stops(text, start, end)))


def find_stop(text: str, start: int, end: int, *, scan_from: int | None = None) -> tuple[int, int] | None:
    """Return the span of the full stop that ends the sentence starting at `start`, with its markers and spaces.

    A stop that reaches `end` counts, although text after `end` could show that it does not end the sentence. Stops
    before `scan_from` are known not to end the sentence.
    """
    for match in _STOP.finditer(text, start if scan_from is None else scan_from, end):
        if match.end() == end or not (_ends_abbreviation(text, match) or _is_inside_row(text, start, match)):
            return match.span()
    return None


def _find_stops(text: str, start: int, end: int) -> Iterator[int]:
    while (stop := find_stop(text, start, end)) is not None:
        start = stop[1]
        yield start


def _ends_abbreviation(text: str, stop: re.Match[str]) -> bool:
    if stop["mark"] != ".":
        return False
    stop_end = stop.start() + 1
    return _ABBREVIATION.search(text, max(stop_end - _MAX_ABBREVIATION_CHARS, 0), stop_end) is not None


def _is_inside_row(text: str, start: int, stop: re.Match[str]) -> bool:
    """Return whether the stop is inside a table row, which is one sentence unless the stop has a marker."""
    if stop["markers"] or text.endswith("]", start, stop.start()):
        return False
    if text.startswith("| ", start):
        return True
    # Two bars indicate a row without its first bar. Prose can contain one bar, and code any number.
    bar = text.find(" | ", start, stop.start())
    second = text.find(" | ", bar + 1, stop.start()) if bar >= 0 else bar
    return second >= 0 and text.count("`", start, second) % 2 == 0


def _cut(text: str, start: int, end: int, borders: list[int]) -> Iterator[tuple[int, int]]:
    for left, right in zip([start, *borders], [*borders, end], strict=True):
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


def _shorten(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > MAX_SENTENCE_CHARS:
        window_end = start + MAX_SENTENCE_CHARS
        cut = max(text.rfind("\n", start, window_end), start)
        if cut == start:
            cut = max(text.rfind(" ", start, window_end), start)
        if cut == start:
            cut = window_end
        yield from _cut(text, start, cut, [])
        start = _trim(text, cut, end)[0]
    if start < end:
        yield start, end
