"""XHTML made safe for a parser of HTML, to which a slash at a tag's end and a CDATA section mean nothing."""

from __future__ import annotations

import re
from html import escape

HEAD_CHARS = 4096
XHTML = re.compile(r"\A\s*<\?xml\b|<html\b[^<>]*\sxmlns\s*=\s*[\"']http://www\.w3\.org/1999/xhtml[\"']")
# No value of XML holds a "<", so that a search for a tag's end never goes past the next one.
ATTRIBUTES = r"""(?=[\s/>])(?:[^"'<>]++|"[^"<]*+"|'[^'<]*+')*+"""
# Comments and scripts are passed over whole: what looks like a tag in them is none to the parser either. One that never
# ends goes to the end, or each would be searched through anew.
TOKEN = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    rf"|<(?P<raw>script|style){ATTRIBUTES}(?<!/)>.*?(?:</(?P=raw)|\Z)"
    r"|<!\[CDATA\[(?P<words>.*?)(?:(?P<end>\]\]>)|\Z)"
    rf"|<(?P<empty>[a-z][^\s/<>\"']*+){ATTRIBUTES}(?<=/)>",
    re.IGNORECASE | re.DOTALL,
)
# Elements that are empty in HTML, too; an end tag of `br` would be a second one.
VOID_TAGS = "area base br col embed hr img input link meta param source track wbr"
VOID = frozenset(VOID_TAGS.split())


def is_xhtml(markup: str) -> bool:
    """Tell whether a page says that it is XML."""
    return XHTML.search(markup[:HEAD_CHARS]) is not None


def close_empty_elements(markup: str) -> str:
    """Return the page with an end tag for each element that a slash closes, and CDATA sections as plain text.

    Works tag by tag, in linear time: a page need not be well-formed.
    """
    return TOKEN.sub(_rewrite, markup)


def _rewrite(token: re.Match[str]) -> str:
    name = token["empty"]
    if name and name.lower() not in VOID:
        return f"{token[0][:-2]}></{name}>"
    return escape(token["words"], quote=False) if token["end"] else token[0]
