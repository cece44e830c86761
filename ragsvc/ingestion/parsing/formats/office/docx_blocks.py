"""Reads paragraphs and table rows from the XML of a Word document, in document order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxml import etree

from ragsvc.ingestion.parsing.blocks import Block, iterate_row_blocks
from ragsvc.ingestion.parsing.formats.office.docx_styles import PLAIN, Style, numbering, outline_level, qn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lxml.etree import _Element

MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
# Duplicate content for readers that do not support the preferred element.
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
PARAGRAPH, TABLE, ROW, CELL = qn("p"), qn("tbl"), qn("tr"), qn("tc")
TEXTS = frozenset({qn("t"), MATH_TEXT})
CHARACTERS = {
    qn("tab"): "\t",
    qn("ptab"): "\t",
    qn("br"): "\n",
    qn("cr"): "\n",
    qn("noBreakHyphen"): "-",
}
# Properties, text that was deleted or moved away, and duplicates.
SKIPPED = frozenset({qn("pPr"), qn("rPr"), qn("del"), qn("moveFrom"), FALLBACK})


def iterate_blocks(container: _Element, styles: Mapping[str, Style]) -> Iterator[Block]:
    """Yield the printed text of a container: paragraphs, table rows, and the content of content controls."""
    for element in container.iterchildren(tag=etree.Element):
        if element.tag == PARAGRAPH:
            yield from _read_paragraph(element, styles)
        elif element.tag == TABLE:
            yield from iterate_row_blocks(_iterate_rows(element, styles))
        elif element.tag not in SKIPPED:
            yield from iterate_blocks(element, styles)


def _read_paragraph(paragraph: _Element, styles: Mapping[str, Style]) -> Iterator[Block]:
    properties = paragraph.find(qn("pPr"))
    named = properties.find(qn("pStyle")) if properties is not None else None
    style = styles.get(named.get(qn("val"), ""), PLAIN) if named is not None else PLAIN
    text = "".join(_iterate_text(paragraph)).strip()
    # The lines of a table of contents repeat the headings and would clutter search results.
    if not text or style.is_contents:
        return
    stated = outline_level(properties)
    level = style.level if stated is None else stated
    numbered = numbering(properties)
    is_item = not level and (style.is_item if numbered is None else numbered)
    yield Block(text=f"- {text}" if is_item else text, level=level, is_item=is_item)


def _iterate_rows(table: _Element, styles: Mapping[str, Style]) -> Iterator[list[str]]:
    for row in _find(table, ROW):
        yield [" ".join(block.text for block in iterate_blocks(cell, styles)) for cell in _find(row, CELL)]


def _find(parent: _Element, tag: str) -> Iterator[_Element]:
    """Yield the rows of a table or the cells of a row, including those in content controls, without nested tables."""
    for element in parent.iterchildren(tag=etree.Element):
        if element.tag == tag:
            yield element
        elif element.tag not in SKIPPED and element.tag not in {TABLE, PARAGRAPH}:
            yield from _find(element, tag)


def _iterate_text(element: _Element) -> Iterator[str]:
    # libxml2 limits the depth to 256 levels, so recursion is safe.
    for child in element.iterchildren(tag=etree.Element):
        if child.tag in TEXTS:
            yield child.text or ""
        elif child.tag in CHARACTERS:
            yield CHARACTERS[child.tag]
        elif child.tag == PARAGRAPH:
            # A text box inside a paragraph.
            yield "\n"
            yield from _iterate_text(child)
        elif child.tag not in SKIPPED:
            yield from _iterate_text(child)
