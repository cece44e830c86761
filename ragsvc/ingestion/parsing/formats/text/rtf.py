"""RTF: its paragraphs and table rows as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from striprtf.striprtf import rtf_to_text

from ragsvc.domain.chunks import ParsedText
from ragsvc.errors import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.formats.text.plain_text import read_source
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.media_types.formats import RTF

if TYPE_CHECKING:
    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

# Pictures and other objects are long runs of hexadecimal digits; the library would walk them one by one.
HEX_RUN = re.compile(r"[0-9a-fA-F\r\n]{1000,}")
BLANK_LINES = re.compile(r"\n{3,}")


def parse_rtf(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the text.

    Raises:
        DocumentRejected: `limit_exceeded` or `corrupt`.
    """
    markup = HEX_RUN.sub("\n", read_source(source, limits).decode("latin-1"))
    # The library looks for links in whole lines, a line's length squared; line ends mean nothing in RTF.
    markup = markup.replace("{\\field", "\n{\\field")
    try:
        text = rtf_to_text(markup, errors="replace")  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, "the RTF document cannot be read") from error
    builder = TextBuilder(limits.max_text_chars)
    builder.append(BLANK_LINES.sub("\n\n", _join_surrogates(text).replace("\r\n", "\n")).strip())
    return ParsedText(text=builder.build(), media_type=RTF)


def _join_surrogates(text: str) -> str:
    """Return the text with one character for each pair: RTF counts in UTF-16, and the library does not."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
