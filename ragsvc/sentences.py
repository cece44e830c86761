"""Where sentences end, in a source and in an answer: what a citation may quote, and what its marker has to carry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A longer piece is a table, a listing or a text without full stops; nobody reads that as a quote.
LONGEST_CHARS = 400

# What an answer cites by: `[1]`, `[1, 3]`.
MARKER = r"\[[0-9]{1,3}(?:[ \t]*,[ \t]*[0-9]{1,3})*+\]"

# What begins a list item, a heading or a quote has a blank behind it: a line of prose may begin with `**very**`,
# `--force`, `#4711` or `>5`. A row of a table ends as it begins; `| grep` does not.
_LINE_MARK = r"•|(?:[-*]|#{1,6}|>++)[ \t]|\d++[.)]\s"
_ROW = r"\|[^\n]*\|[ \t]*+(?=\n|\Z)"
_RULE = r"[-*=]++[ \t]*+(?=\n|\Z)"
# A row of values without bars has a tab, or a comma or semicolon that no blank follows, as no prose has.
_VALUES = r"[^\n]*(?:\t|[^\W\d][,;]\w|[,;][^\W\d]|,,|;;)"
# A line break before a blank line or one of those; and the one behind a line that is a heading, a row or a rule.
_BLOCK_END = re.compile(
    rf"\n(?=[ \t]*+(?:\n|{_LINE_MARK}|{_ROW}|{_RULE})|{_VALUES})|^(?:#{{1,6}}[ \t][^\n]*|[ \t]*+(?:{_ROW}|{_RULE}))\n",
    re.MULTILINE,
)
# A full stop with the markers behind it, before what may begin a sentence; or at the end of what is there, also where a
# marker has only begun. Each run of stops is tried once: an answer may be nothing else.
_STOP = re.compile(
    rf"(?<![.!?])(?P<mark>[.!?]++[\"'”’)\]]*+)(?P<markers>(?:[ \t]*+{MARKER})*+)"  # noqa: RUF001  # they are meant
    r"(?:\s*+(?:\[[0-9, \t]*+)?+\Z|\s++(?=[^\sa-zß-öø-ÿ|]))"
    rf"|(?<![。！？])[。！？]++[”』」）]*+(?:[ \t]*+{MARKER})*+(?:\s*+(?:\[[0-9, \t]*+)?+\Z|\s*+)"  # noqa: RUF001  # they are meant
)
# What ends with a full stop and no sentence: abbreviations, initials, the number of a list item.
_NO_STOP = re.compile(
    r"(?<![^\s(\[\"“])(?:[A-Z]|(?:e\.g|i\.e|cf|vs|etc|dr|mr|mrs|ms|prof|st|no|nr|fig|eq|sec|ch|pp?|vol|approx|inc|ltd)"
    r"|\d{1,2})\.$",
    re.IGNORECASE,
)
_LONGEST_NO_STOP_CHARS = 8
_MARKUP = re.compile(r"(?:[-*•#|>]{1,9}|\d{1,9}[.)])[ \t]\s*")


def split_sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield where sentences, list items and headings stand, `[start, end)` in code points, without white space around.

    What is longer than LONGEST_CHARS is cut at line breaks, else at blanks.
    """
    for start, end in find_sentences(text):
        yield from _shorten(text, start, end)


def find_sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield the same in their full length."""
    for start, end in _cut(text, 0, len(text), [match.end() for match in _BLOCK_END.finditer(text)]):
        is_row = text.endswith("|", start, end)
        yield from _cut(text, start, end, [] if is_row else list(_find_stops(text, start, end)))


def find_stop(text: str, start: int, end: int, *, scan_from: int | None = None) -> tuple[int, int] | None:
    """Return where the full stop that ends the sentence begun at `start` stands, its markers and blanks included.

    One that reaches `end` counts; when the text goes on behind `end`, what comes may still decide otherwise. No stop
    before `scan_from` ends the sentence.
    """
    for match in _STOP.finditer(text, start if scan_from is None else scan_from, end):
        if match.end() == end or not (_is_short(text, match) or _is_inside_row(text, start, match)):
            return match.span()
    return None


def _find_stops(text: str, start: int, end: int) -> Iterator[int]:
    while (stop := find_stop(text, start, end)) is not None:
        start = stop[1]
        yield start


def _is_short(text: str, stop: re.Match[str]) -> bool:
    if stop["mark"] != ".":
        return False
    behind = stop.start() + 1
    return _NO_STOP.search(text, max(behind - _LONGEST_NO_STOP_CHARS, 0), behind) is not None


def _is_inside_row(text: str, start: int, stop: re.Match[str]) -> bool:
    """Tell whether the stop stands in a row of a table, which is read whole: only a marker at a stop ends it."""
    if stop["markers"] or text.endswith("]", start, stop.start()):
        return False
    if text.startswith("| ", start):
        return True
    # Two bars are a row that came without its first one; prose may have one, and a command in code has any number.
    bar = text.find(" | ", start, stop.start())
    second = text.find(" | ", bar + 1, stop.start()) if bar >= 0 else bar
    return second >= 0 and text.count("`", start, second) % 2 == 0


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
