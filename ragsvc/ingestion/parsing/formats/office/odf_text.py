"""Reads the text of OpenDocument elements: paragraphs, spaces, notes and table rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxml import etree

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.blocks import Block, iterate_row_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element

OASIS = "urn:oasis:names:tc:opendocument:xmlns:"
OFFICE, TEXT, TABLE = (f"{{{OASIS}{name}:1.0}}" for name in ("office", "text", "table"))
PARAGRAPH, HEADING = f"{TEXT}p", f"{TEXT}h"
LISTS = frozenset({f"{TEXT}list-item", f"{TEXT}list-header"})
# Elements that are not printed, were deleted, or repeat other text.
SKIPPED = frozenset(
    {
        f"{TEXT}tracked-changes",
        f"{TEXT}table-of-content",
        f"{TEXT}alphabetical-index",
        f"{TEXT}sequence-decls",
        f"{TEXT}note-citation",
        f"{OFFICE}annotation",
        f"{OFFICE}forms",
        f"{TABLE}shapes",
    }
)
MAX_SPACES = 100
# The column limit of office programs.
MAX_COLUMNS = 16_384


def iterate_blocks(container: _Element, *, in_list: bool = False) -> Iterator[Block]:
    """Yield the printed text of a container, in document order; notes follow the paragraph that refers to them."""
    # libxml2 limits the depth to 256 levels, so recursion is safe.
    for element in container.iterchildren(tag=etree.Element):
        if element.tag in SKIPPED:
            continue
        if element.tag in {PARAGRAPH, HEADING}:
            yield from _read_paragraph(element, in_list=in_list)
        elif element.tag == f"{TABLE}table":
            yield from iterate_row_blocks(_iterate_rows(element))
        else:
            yield from iterate_blocks(element, in_list=in_list or element.tag in LISTS)


def _iterate_rows(table: _Element) -> Iterator[list[str]]:
    for row in table.iter(f"{TABLE}table-row"):
        if next(row.iterancestors(f"{TABLE}table")) is table:
            yield read_row(row)


def read_row(row: _Element) -> list[str]:
    """Return the cells of a row, with repeated cells expanded.

    Trailing empty cells are dropped: office programs fill rows with them up to the last column.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    cells: list[str] = []
    blank = 0
    for cell in row.iterchildren(f"{TABLE}table-cell", f"{TABLE}covered-table-cell"):
        times = _count(cell, f"{TABLE}number-columns-repeated")
        text = " ".join(block.text for block in iterate_blocks(cell))
        if not text:
            blank += times
            continue
        if len(cells) + blank + times > MAX_COLUMNS:
            raise DocumentRejected(DocumentErrorCode.LIMIT_EXCEEDED, f"a row has more than {MAX_COLUMNS:,} cells")
        cells += [*[""] * blank, *[text] * times]
        blank = 0
    return cells


def _read_paragraph(paragraph: _Element, *, in_list: bool) -> Iterator[Block]:
    inner: list[_Element] = []
    text = "".join(_iterate_text(paragraph, inner)).strip()
    if text:
        is_heading = paragraph.tag == HEADING
        level = _count(paragraph, f"{TEXT}outline-level") if is_heading else 0
        is_item = in_list and not is_heading
        yield Block(f"- {text}" if is_item else text, level=level, is_item=is_item)
    for element in inner:
        yield from iterate_blocks(element)


def _iterate_text(element: _Element, inner: list[_Element]) -> Iterator[str]:
    """Yield the text of a paragraph; notes and frames, which are separate blocks, are appended to `inner`."""
    yield _collapse(element.text)
    for child in element.iterchildren(tag=etree.Element):
        match child.tag.removeprefix(TEXT):
            case "s":
                yield " " * min(_count(child, f"{TEXT}c"), MAX_SPACES)
            case "tab":
                yield "\t"
            case "line-break":
                yield "\n"
            case "note":
                inner.append(child)
            case _ if child.tag in SKIPPED:
                pass
            case _ if child.tag.startswith(f"{{{OASIS}drawing"):
                inner.append(child)
            case _:
                yield from _iterate_text(child, inner)
        yield _collapse(child.tail)


def _collapse(text: str | None) -> str:
    """Collapse white space to single spaces, as the format specifies."""
    if not text or text.isspace():
        return " " if text else ""
    words = " ".join(text.split())
    return f"{' ' if text[0].isspace() else ''}{words}{' ' if text[-1].isspace() else ''}"


def _count(element: _Element, attribute: str) -> int:
    value = element.get(attribute, "1")
    return int(value) if value.isdecimal() and len(value) < 10 else 1  # noqa: PLR2004 - no count has ten digits
