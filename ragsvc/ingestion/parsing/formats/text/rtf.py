"""RTF: paragraphs and table rows as plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from striprtf.striprtf import rtf_to_text

from ragsvc.domain.chunks import ParsedText
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.formats.text.plain_text import read_source
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.media_types.formats import RTF

if TYPE_CHECKING:
    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

# Pictures and embedded objects, which striprtf would process digit by digit.
HEX_RUN = re.compile(r"[0-9a-fA-F\r\n]{1000,}")
BLANK_LINES = re.compile(r"\n{3,}")


def parse_rtf(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the document's text.

    Raises:
        DocumentRejected: `limit_exceeded` or `corrupt`.
    """
    markup = HEX_RUN.sub("\n", read_source(source, limits).decode("latin-1"))
    # striprtf takes quadratic time to search a line for links. Line breaks have no meaning in RTF, so add some.
    markup = markup.replace("{\\field", "\n{\\field")
    try:
        text = rtf_to_text(markup, errors="replace")  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, "the RTF document cannot be read") from error
    builder = TextBuilder(limits.max_text_chars)
    builder.append(BLANK_LINES.sub("\n\n", _join_surrogates(text).replace("\r\n", "\n")).strip())
    return ParsedText(text=builder.build(), media_type=RTF)


def _join_surrogates(text: str) -> str:
    """Combine surrogate pairs: RTF encodes characters as UTF-16 code units, which striprtf returns separately."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
