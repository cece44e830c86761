"""HTML: the visible text, block by block, without navigation and other boilerplate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser

from ragsvc.domain.chunks import ParsedText
from ragsvc.ingestion.parsing.detection.decoding import declared_charset, decode
from ragsvc.ingestion.parsing.formats.text.plain_text import read_source
from ragsvc.ingestion.parsing.formats.web.html_shape import check_shape
from ragsvc.ingestion.parsing.formats.web.html_writer import HtmlWriter
from ragsvc.ingestion.parsing.formats.web.xhtml import close_empty_elements, is_xhtml
from ragsvc.ingestion.parsing.normalisation import has_text, strip_unstorable
from ragsvc.media_types.formats import HTML

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selectolax.lexbor import LexborNode

    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

TEXT_NODE = "-text"
NEVER_RENDERED_TAGS = (
    "head script style noscript template svg math iframe object embed applet canvas audio video map select datalist"
    " button textarea input progress meter -comment -doctype"
)
NEVER_RENDERED = frozenset(NEVER_RENDERED_TAGS.split())
BOILERPLATE = NEVER_RENDERED | {"nav"}
HIDDEN = "[hidden], [aria-hidden=true], [role=navigation], [role=search], dialog:not([open])"


def parse_html(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the visible text with h1 to h6 as headings; a page without an h1 begins with its title.

    Raises:
        DocumentRejected: `limit_exceeded` or `encoding`.
    """
    data = read_source(source, limits)
    tree = read_markup(data, declared=source.charset)
    # Some pages consist only of navigation, such as an index or a sitemap.
    for skipped in (BOILERPLATE, NEVER_RENDERED):
        writer = HtmlWriter(limits.max_text_chars)
        write_page(tree, writer, skipped=skipped)
        text = writer.finish()
        if has_text(text):
            break
    return ParsedText(text=text, headings=tuple(writer.headings), tables=tuple(writer.tables), media_type=HTML)


def read_markup(data: bytes, *, declared: str | None = None, is_xml: bool = False) -> LexborHTMLParser:
    """Return the tree of a page, parsed as XHTML if `is_xml` is set or the page declares it, otherwise as HTML.

    Raises:
        DocumentRejected: `limit_exceeded` or `encoding`.
    """
    markup = strip_unstorable(decode(data, declared=declared or declared_charset(data)))
    if is_xml or is_xhtml(markup):
        markup = close_empty_elements(markup)
    check_shape(markup)
    # Disable mutation events, which take quadratic time for long lists.
    return LexborHTMLParser(markup, options=LexborDocumentOptions.WO_EVENTS)


def write_page(
    tree: LexborHTMLParser, writer: HtmlWriter, *, skipped: frozenset[str] = BOILERPLATE, with_title: bool = True
) -> None:
    """Write the visible text of a page; with `with_title`, a page without an h1 begins with its title."""
    hidden = {node.mem_id for node in tree.css(HIDDEN)} if skipped is BOILERPLATE else set()
    title = tree.css_first("head > title") if with_title else None
    if title is not None and tree.css_first("h1") is None:
        writer.write_title(title.text())
    if tree.body is not None:
        for tag, node in _walk(tree.body, skipped, hidden):
            if node is None:
                writer.leave(tag)
            elif tag == TEXT_NODE:
                writer.write(node.text_content or "")
            else:
                writer.enter(tag)


def _walk(root: LexborNode, skipped: frozenset[str], hidden: set[int]) -> Iterator[tuple[str, LexborNode | None]]:
    """Yield (tag, node) where an element or text begins and (tag, None) where an element ends.

    Iterative, because pages can be nested deeper than Python's recursion limit.
    """
    open_tags: list[str] = []
    node: LexborNode | None = root
    while node is not None:
        tag = node.tag or ""
        child = None
        if tag not in skipped and not (hidden and node.mem_id in hidden):
            yield tag, node
            if tag != TEXT_NODE:
                open_tags.append(tag)
                child = node.first_child
                if child is None:
                    yield open_tags.pop(), None
        if child is not None:
            node = child
            continue
        while node is not None and open_tags and node.next is None:
            yield open_tags.pop(), None
            node = node.parent
        node = node.next if node is not None and open_tags else None
