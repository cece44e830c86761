"""Documentation pages as they are uploaded, and their sections."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selectolax.lexbor import LexborHTMLParser

from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
from ragsvc.ingestion.parsing.formats.web.html import parse_html
from ragsvc.ingestion.parsing.limits import ParseLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selectolax.lexbor import LexborNode

    from ragsvc.domain.chunks import ParsedText

LIMITS = ParseLimits(
    max_pages=10_000,
    max_cells=1_000_000,
    max_text_chars=10_000_000,
    max_expanded_bytes=2**30,
    max_chunks=100_000,
    timeout_s=60,
    memory_bytes=2**32,
)
HEADINGS = "h1, h2, h3, h4, h5, h6"
# Menus, tables of contents and diagrams; a table of contents would repeat every question.
FURNITURE = (
    "script, style, svg, .nosearch, .fancy_toc, #toc_sub, .toc, .contents, .navheader, .navfooter, .sphinxsidebar,"
    " .related, .footer, #footer, .headerlink, a[href^='#q'], #fancy_toc"
)
NUMBER = re.compile(r"^(?:Chapter\s+|Appendix\s+)?\(?(?:[A-Z]?\d+[.)]?)+\s+|^[¶\s]+|[¶\s]+$")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text below it, including subsections; offsets count code points of the canonical text."""

    title: str
    char_start: int
    char_end: int
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """A document as uploaded, and its sections in order."""

    filename: str
    html: str
    sections: tuple[Section, ...]


def read_page(path: Path, *, filename: str, hides_questions: bool = False) -> Page:
    """Return a page without navigation.

    With `hides_questions`, a heading that ends with a question mark is replaced by its number in the upload. The
    sections retain the question, which is then not part of the text.
    """
    tree = LexborHTMLParser(_mark_questions(path.read_text(encoding="utf-8", errors="replace")))
    for node in tree.css(FURNITURE):
        node.decompose()
    hidden = dict(_hide_questions(tree.css(HEADINGS))) if hides_questions else {}
    html = tree.html or ""
    return Page(filename, html, tuple(_split(parse(html), hidden)))


def parse(html: str) -> ParsedText:
    """Return the canonical text of a page, as the service parses it."""
    with tempfile.NamedTemporaryFile(suffix=".html") as file:
        Path(file.name).write_text(html, encoding="utf-8")
        return parse_html(SourceFile(Path(file.name), "page.html", "text/html; charset=utf-8"), LIMITS)


def clean(title: str) -> str:
    """Return a heading without its number and punctuation."""
    return NUMBER.sub("", NUMBER.sub("", " ".join(title.split())))


def _mark_questions(html: str) -> str:
    """Convert questions in other markup to headings: Git's FAQ is a list, SQLite's has bold paragraphs."""
    html = re.sub(r'<dt class="hdlist1">\s*(.*?\?)\s*</dt>', r"<h4>\1</h4>", html, flags=re.DOTALL)
    return re.sub(r"<p><b>\(\d+\) ([^<]*(?:<(?!/b>)[^<]*)*)</b></p>", r"<h4>\1</h4>", html, flags=re.DOTALL)


def _hide_questions(headings: list[LexborNode]) -> Iterator[tuple[str, str]]:
    for number, node in enumerate(headings, start=1):
        title = clean(node.text())
        if title.endswith("?"):
            hidden = f"Question {number}"
            node.inner_html = hidden
            yield hidden, title


def _split(parsed: ParsedText, hidden: dict[str, str]) -> Iterator[Section]:
    headings = parsed.headings
    for index, heading in enumerate(headings):
        below = (later.char_start for later in headings[index + 1 :] if later.level <= heading.level)
        end = next(below, len(parsed.text))
        start = parsed.text.find("\n", heading.char_start, end) + 1 or end
        title = hidden.get(heading.title, clean(heading.title))
        yield Section(title, start, end, parsed.text[start:end].strip())
