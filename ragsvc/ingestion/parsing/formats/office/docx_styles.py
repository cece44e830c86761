"""Paragraph styles of Word documents: headings, list items and tables of contents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
HEADING_NAME = re.compile(r"heading ([1-9])$", re.IGNORECASE)
CONTENTS_NAME = re.compile(r"toc \d$", re.IGNORECASE)
# Outline levels count from 0; level 9 means body text.
BODY_LEVEL = 9
MAX_ANCESTORS = 20


@dataclass(frozen=True, slots=True)
class Style:
    """A paragraph style: its heading level (0: none), and whether it is for list items or a table of contents."""

    level: int = 0
    is_item: bool = False
    is_contents: bool = False


PLAIN = Style()


def qn(name: str) -> str:
    """Return the qualified name of a WordprocessingML element or attribute."""
    return WORD + name


def read_styles(styles: _Element) -> Mapping[str, Style]:
    """Return the paragraph styles by id."""
    elements = {
        element.get(qn("styleId"), ""): element
        for element in styles.iterchildren(qn("style"))
        if element.get(qn("type"), "paragraph") == "paragraph"
    }
    return {style_id: _resolve(style_id, elements) for style_id in elements}


def outline_level(properties: _Element | None) -> int | None:
    """Return the heading level set by paragraph properties, 0 for body text; None if they set none."""
    element = properties.find(qn("outlineLvl")) if properties is not None else None
    value = element.get(qn("val"), "") if element is not None else ""
    if not value.isdecimal():
        return None
    level = int(value)
    return level + 1 if level < BODY_LEVEL else 0


def numbering(properties: _Element | None) -> bool | None:
    """Return whether paragraph properties make the paragraph a list item; None if they do not specify it."""
    element = properties.find(f"{qn('numPr')}/{qn('numId')}") if properties is not None else None
    return None if element is None else element.get(qn("val")) != "0"


def _resolve(style_id: str, elements: Mapping[str, _Element]) -> Style:
    level: int | None = None
    is_item: bool | None = None
    name = _name(elements[style_id])
    for _ in range(MAX_ANCESTORS):
        element = elements.get(style_id)
        if element is None:
            break
        properties = element.find(qn("pPr"))
        level = _own_level(element, properties) if level is None else level
        is_item = numbering(properties) if is_item is None else is_item
        parent = element.find(qn("basedOn"))
        style_id = parent.get(qn("val"), "") if parent is not None else ""
    return Style(level=level or 0, is_item=bool(is_item), is_contents=bool(CONTENTS_NAME.match(name)))


def _own_level(element: _Element, properties: _Element | None) -> int | None:
    stated = outline_level(properties)
    if stated is not None:
        return stated
    name = _name(element)
    match = HEADING_NAME.match(name)
    return int(match[1]) if match else 1 if name.lower() == "title" else None


def _name(element: _Element) -> str:
    name = element.find(qn("name"))
    return name.get(qn("val"), "") if name is not None else ""
