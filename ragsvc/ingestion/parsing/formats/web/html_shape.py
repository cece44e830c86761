"""Refuses HTML whose nesting or attributes would keep the parser busy for minutes."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected

if TYPE_CHECKING:
    from collections.abc import Iterator

# Browsers stop nesting at 512 levels. The parser's time is quadratic in the depth: 0.2 s at this limit.
MAX_DEPTH = 10_000
# The parser's time is also quadratic in the number of an element's attributes.
MAX_ATTRIBUTES = 1000
LONG_TAG = re.compile(r"<[a-zA-Z][^<>]{4000,}")
TAG = re.compile(r"<(/?)([a-z][^\s/<>]*)([^<>]*)", re.IGNORECASE)
# Elements that do not add a level, because they are void or their end tag is implied by what follows.
IMPLIED_END_TAGS = (
    "area base br col embed hr img input link meta source track wbr p li dt dd option optgroup tr td th thead tbody"
    " tfoot colgroup caption html head body a"
)
IMPLIED_END = frozenset(IMPLIED_END_TAGS.split())
# Only in foreign content (SVG and MathML) does a slash at the end of a tag close the element. The breakout tags leave
# foreign content, or begin HTML inside it (WHATWG HTML, 13.2.6.5).
FOREIGN = frozenset({"svg", "math"})
BREAKOUT_TAGS = (
    "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta"
    " nobr ol p pre ruby s small span strong strike sub sup table tt u ul var font"
    " foreignobject desc title annotation-xml mi mo mn ms mtext"
)
BREAKOUT = frozenset(BREAKOUT_TAGS.split())


def check_shape(markup: str) -> None:
    """Refuse markup that would take the parser minutes.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    if any(len(tag[0].split()) > MAX_ATTRIBUTES for tag in LONG_TAG.finditer(markup)):
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED, f"an element has more than {MAX_ATTRIBUTES:,} attributes"
        )
    # Count the levels only if there are enough tags to exceed the limit.
    if markup.count("<") > MAX_DEPTH and max(accumulate(_iterate_steps(markup)), default=0) > MAX_DEPTH:
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED, f"elements are nested more than {MAX_DEPTH:,} levels deep"
        )


def _iterate_steps(markup: str) -> Iterator[int]:
    """Yield the change in depth caused by each tag: 1 or -1."""
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
    """Return whether a tag ends in a slash that is not part of a quoted value."""
    return attributes.endswith("/") and attributes.count('"') % 2 == attributes.count("'") % 2 == 0
