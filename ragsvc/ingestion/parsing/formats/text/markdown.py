"""Markdown: the source is the canonical text, with its headings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import Heading, ParsedText
from ragsvc.ingestion.parsing.formats.text.plain_text import read_canonical
from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.media_types.formats import MARKDOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

ATX_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
CLOSING_MARKS = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")
SETEXT_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
# Lines that cannot be setext headings: list items, quotes, tables, code, HTML, thematic breaks and blank lines.
NO_PARAGRAPH = re.compile(r"\s*$|    |\t| {0,3}(?:[-+*>|<]|\d{1,9}[.)]\s)")
FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
FRONT_MATTER = re.compile(r"---[ \t]*\n(?:[^\n]*\n){0,200}?(?:---|\.\.\.)[ \t]*(?:\n|$)")
COMMENT = re.compile(r" {0,3}<!--")
LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
EMPHASIS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")
ANCHOR = re.compile(r"\s*\{#[^{}]*\}\s*$")
MAX_HEADING_CHARS = 500


def parse_markdown(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the source unchanged, with its headings."""
    text = read_canonical(source, limits)
    return ParsedText(text=text, headings=tuple(scan_headings(text)), media_type=MARKDOWN)


def scan_headings(text: str) -> Iterator[Heading]:
    """Yield the ATX and setext headings of a Markdown text; `char_start` is the start of the heading's line.

    Follows CommonMark for top-level headings; headings inside quotes and lists are treated as text.
    """
    fence = ""
    in_comment = in_paragraph = False
    candidate: tuple[int, str] | None = None  # a one-line paragraph, which becomes a heading if underlined
    for start, line in _iterate_lines(text):
        if fence:
            fence = "" if _closes(fence, line) else fence
        elif in_comment:
            in_comment = "-->" not in line
        elif opening := FENCE.match(line):
            fence, candidate, in_paragraph = opening[1], None, False
        elif COMMENT.match(line):
            in_comment, candidate, in_paragraph = "-->" not in line, None, False
        else:
            heading = _read_heading(line, start, candidate)
            if heading is not None:
                yield heading
            is_text = heading is None and not NO_PARAGRAPH.match(line)
            candidate = (start, line) if is_text and not in_paragraph else None
            in_paragraph = is_text


def _iterate_lines(text: str) -> Iterator[tuple[int, str]]:
    front_matter = FRONT_MATTER.match(text)
    start = front_matter.end() if front_matter else 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, text[start:end]
        start = end + 1


def _read_heading(line: str, start: int, candidate: tuple[int, str] | None) -> Heading | None:
    atx = ATX_HEADING.match(line)
    if atx:
        title = CLOSING_MARKS.sub("", (atx[2] or "")[:MAX_HEADING_CHARS])
        return make_heading(len(atx[1]), _strip_markup(title), start)
    underline = SETEXT_UNDERLINE.match(line) if candidate else None
    if underline and candidate:
        return make_heading(
            1 if underline[1][0] == "=" else 2, _strip_markup(candidate[1][:MAX_HEADING_CHARS]), candidate[0]
        )
    return None


def _closes(fence: str, line: str) -> bool:
    mark = line.strip()
    return len(mark) >= len(fence) and not mark.strip(fence[0])


def _strip_markup(title: str) -> str:
    return EMPHASIS.sub("", LINK.sub(r"\1", ANCHOR.sub("", title)))
