"""The shape of HTML: what would take the parser minutes is refused before it sees it."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING

from ragsvc.errors import DocumentErrorCode, DocumentRejected

if TYPE_CHECKING:
    from collections.abc import Iterator

# Browsers stop nesting at 512. The parser's time grows with the square of the depth: 0.2 s at this one.
MAX_DEPTH = 10_000
# It takes the square of an element's attributes, too.
MAX_ATTRIBUTES = 1000
LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{4000,}")
TAG = re.compile(r"<(/?)([a-z][^\s/<>]*)([^<>]*)", re.IGNORECASE)
# Elements that stay open until their end tag are all but these, which are closed by what follows them.
IMPLIED_END_TAGS = (
    "area base br col embed hr img input link meta source track wbr p li dt dd option optgroup tr td th thead tbody"
    " tfoot colgroup caption html head body a"
)
IMPLIED_END = frozenset(IMPLIED_END_TAGS.split())
# Only in drawings and formulas does a slash at a tag's end close the element; these tags lead out of them, or to HTML
# inside of them (WHATWG HTML, 13.2.6.5).
FOREIGN = frozenset({"svg", "math"})
BREAKOUT_TAGS = (
    "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta"
    " nobr ol p pre ruby s small span strong strike sub sup table tt u ul var font"
    " foreignobject desc title annotation-xml mi mo mn ms mtext"
)
BREAKOUT = frozenset(BREAKOUT_TAGS.split())


def check_shape(markup: str) -> None:
    """Refuse what would take the parser minutes.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    if any(len(tag[0].split()) > MAX_ATTRIBUTES for tag in LONG_TAG.finditer(markup)):
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED, f"an element has more than {MAX_ATTRIBUTES:,} attributes"
        )
    # There are fewer levels than tags.
    if markup.count("<") > MAX_DEPTH and max(accumulate(_iterate_steps(markup)), default=0) > MAX_DEPTH:
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED, f"elements are nested more than {MAX_DEPTH:,} levels deep"
        )


def _iterate_steps(markup: str) -> Iterator[int]:
    """Yield how many levels deeper each tag leads, or -1."""
    in_foreign_content = False
    for match in TAG.finditer(markup):
        closing, tag, attributes = match.groups()
        tag = tag.lower()
        is_self_closed = in_foreign_content and not closing and _ends_in_slash(attributes)
        if tag in FOREIGN:
            in_foreign_content = not closing and not _ends_in_slash(attributes)
        elif tag in BREAKOUT:
            in_foreign_content = False
        if tag not in IMPLIED_END and not is_self_closed:
            yield -1 if closing else 1


def _ends_in_slash(attributes: str) -> bool:
    """Tell whether a tag ends in a slash of its own, none of a value in quotes."""
    return attributes.endswith("/") and attributes.count('"') % 2 == attributes.count("'") % 2 == 0
