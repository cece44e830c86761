"""Writes the text of HTML elements: lines, blank lines between blocks, cells, preformatted text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ragsvc.ingestion.parsing.formats.web.html_tables import CELLS, HtmlTables
from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder

if TYPE_CHECKING:
    from ragsvc.domain.chunks import Heading, Table

HEADING_LEVELS = {f"h{level}": level for level in range(1, 7)}
# Blocks that are separated by a blank line, and blocks that only begin a new line.
PARAGRAPH_TAGS = (
    "p pre blockquote ul ol menu dl table figure section article main aside header footer hr details dialog fieldset"
    " form address h1 h2 h3 h4 h5 h6"
)
PARAGRAPHS = frozenset(PARAGRAPH_TAGS.split())
LINE_TAGS = "div li dt dd tr caption figcaption summary legend center body thead tbody tfoot"
LINES = frozenset(LINE_TAGS.split())
ITEMS = frozenset({"li", "tr", "dd"})
WHITE_SPACE = re.compile(r"[ \t\n\r\f]+")


class HtmlWriter:
    """Builds the canonical text from elements and text in document order.

    Lines are normalised as a whole when they end, because a letter and its accent can be in different text nodes.
    """

    def __init__(self, max_chars: int) -> None:
        self.headings: list[Heading] = []
        self._builder = TextBuilder(max_chars)
        self._line: list[str] = []
        self._separator = ""
        self._bullet = ""
        self._at_start = False  # in an item or cell before its first text, which begins on the same line
        self._preformatted = 0
        self._row_start = 0
        self._heading_lines: list[tuple[int, str]] | None = None
        self._tables = HtmlTables()

    @property
    def tables(self) -> list[Table]:
        """The finished tables that have a header."""
        return self._tables.tables

    def write_title(self, title: str) -> None:
        """Write the page's title as its first heading."""
        self.enter("h1")
        self.write(title)
        self.leave("h1")

    def write(self, text: str) -> None:
        """Add text; outside preformatted elements, white space is collapsed."""
        if not self._preformatted:
            text = WHITE_SPACE.sub(" ", text)
            if not self._line or self._line[-1].endswith(" "):
                text = text.removeprefix(" ")
        if text:
            self._line.append(text)

    def enter(self, tag: str) -> None:
        """Begin an element."""
        if tag in CELLS:
            self._begin_cell()
        elif tag == "br":
            self._break_line()
        elif tag in PARAGRAPHS or tag in LINES:
            self._end_line("\n\n" if tag in PARAGRAPHS else "\n")
            self._begin_block(tag)
        self._tables.enter(tag)

    def leave(self, tag: str) -> None:
        """End an element."""
        if tag in HEADING_LEVELS:
            self._end_heading(HEADING_LEVELS[tag])
        elif tag in PARAGRAPHS:
            self._end_line("\n\n")
            self._preformatted -= tag == "pre"
        elif tag in LINES:
            self._end_line("\n")
            if tag in ITEMS:
                # No blank lines between items or rows, even if they contain paragraphs.
                self._bullet = ""
                self._separator = "\n"
                self._at_start = False
        self._tables.leave(tag)

    def break_page(self) -> None:
        """End a page and all elements still open; the next text begins a new paragraph."""
        self._end_line("\n\n")
        self._separator = "\n\n"
        self._bullet = ""
        self._at_start = False
        self._preformatted = 0

    def finish(self) -> str:
        """End the last line and return the text."""
        self._end_line("")
        return self._builder.build()

    def _begin_block(self, tag: str) -> None:
        self._at_start = self._at_start or tag in ITEMS
        if tag == "li":
            self._bullet = "- "
        elif tag == "tr":
            self._row_start = self._builder.length
        elif tag == "pre":
            self._preformatted += 1
        elif tag in HEADING_LEVELS:
            self._heading_lines = []
            self._tables.add_heading()

    def _begin_cell(self) -> None:
        self._end_line("\n")
        if self._builder.length > self._row_start:
            self._separator = "\t"
        self._at_start = True

    def _break_line(self) -> None:
        if self._preformatted:
            self._line.append("\n")
        else:
            self._end_line("\n")

    def _end_heading(self, level: int) -> None:
        self._end_line("\n\n")
        lines, self._heading_lines = self._heading_lines, None
        if lines:
            heading = make_heading(level, " ".join(text for _, text in lines), lines[0][0])
            if heading is not None:
                self.headings.append(heading)

    def _end_line(self, separator: str) -> None:
        if self._line:
            line = "".join(self._line)
            self._line = []
            line = line.strip("\n") if self._preformatted else line.strip(" ")
            if line.strip():
                self._append(line)
        if not self._at_start and len(separator) > len(self._separator):
            self._separator = separator

    def _append(self, line: str) -> None:
        start, end = self._builder.append(self._bullet + line, separator=self._separator or "\n")
        self._tables.add_line(line, (start, end))
        if self._heading_lines is not None:
            self._heading_lines.append((start, line))
        self._bullet = self._separator = ""
        self._at_start = False
