"""The title of a text that has no headings: its first line, where that is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.ingestion.parsing.sniffing import DOCX, ODT, PDF, RTF
from ragsvc.ingestion.parsing.text_types import HTML, MARKDOWN, PLAIN_TEXT

if TYPE_CHECKING:
    from ragsvc.models.chunks import ParsedText

# Of running text; the first line of data or of code names nothing.
TITLED = frozenset({PLAIN_TEXT, MARKDOWN, HTML, PDF, DOCX, ODT, RTF})
MAX_TITLE_CHARS = 120
# A sentence, or what goes on in the next line.
NO_TITLE_ENDS = (".", ",", ";", ":", "-", "!")


def find_title(parsed: ParsedText) -> str:
    """Return the title, or '' where the text begins without one."""
    if parsed.media_type not in TITLED:
        return ""
    first, _, rest = parsed.text.lstrip().partition("\n")
    title = " ".join(first.split())
    is_named = title and len(title) <= MAX_TITLE_CHARS and not title.endswith(NO_TITLE_ENDS)
    return title if is_named and any(map(str.isalpha, title)) and _stands_apart(rest, parsed) else ""


def _stands_apart(rest: str, parsed: ParsedText) -> bool:
    # Pages are read without blank lines.
    following = rest[:1]
    return following == "\n" or bool(parsed.pages and following and not following.islower())
