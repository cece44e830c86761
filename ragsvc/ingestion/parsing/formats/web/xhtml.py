"""Converts XHTML for an HTML parser, which ignores self-closing slashes and CDATA sections."""

from __future__ import annotations

import re
from html import escape

HEAD_CHARS = 4096
XHTML = re.compile(r"\A\s*<\?xml\b|<html\b[^<>]*\sxmlns\s*=\s*[\"']http://www\.w3\.org/1999/xhtml[\"']")
# XML attribute values cannot contain "<", so the search for the end of a tag stops at the next tag.
ATTRIBUTES = r"""(?=[\s/>])(?:[^"'<>]++|"[^"<]*+"|'[^'<]*+')*+"""
# Comments and scripts are single tokens, since their content is not parsed as tags. Unterminated ones extend to the
# end of the text: otherwise every opening would start another search to the end.
TOKEN = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    rf"|<(?P<raw>script|style){ATTRIBUTES}(?<!/)>.*?(?:</(?P=raw)|\Z)"
    r"|<!\[CDATA\[(?P<words>.*?)(?:(?P<end>\]\]>)|\Z)"
    rf"|<(?P<empty>[a-z][^\s/<>\"']*+){ATTRIBUTES}(?<=/)>",
    re.IGNORECASE | re.DOTALL,
)
# Elements that are always empty in HTML; adding an end tag to `br` would create a second one.
VOID_TAGS = "area base br col embed hr img input link meta param source track wbr"
VOID = frozenset(VOID_TAGS.split())


def is_xhtml(markup: str) -> bool:
    """Return whether a page declares itself to be XML."""
    return XHTML.search(markup[:HEAD_CHARS]) is not None


def close_empty_elements(markup: str) -> str:
    """Return the page with an end tag for each self-closing element, and with CDATA sections as escaped text.

    Works tag by tag in linear time; the page does not have to be well-formed.
    """
    return TOKEN.sub(_rewrite, markup)


def _rewrite(token: re.Match[str]) -> str:
    name = token["empty"]
    if name and name.lower() not in VOID:
        return f"{token[0][:-2]}></{name}>"
    return escape(token["words"], quote=False) if token["end"] else token[0]
