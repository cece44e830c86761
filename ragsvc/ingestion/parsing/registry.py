"""Which parser reads which type; the way of every file from its bytes to canonical text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ragsvc.errors import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.docx import parse_docx
from ragsvc.ingestion.parsing.html import parse_html
from ragsvc.ingestion.parsing.markdown import parse_markdown
from ragsvc.ingestion.parsing.normalisation import has_text
from ragsvc.ingestion.parsing.pdf import parse_pdf
from ragsvc.ingestion.parsing.plain_text import parse_plain_text
from ragsvc.ingestion.parsing.sniffing import DOCX, HTML, MARKDOWN, PDF, PLAIN_TEXT, SourceFile, sniff

if TYPE_CHECKING:
    from ragsvc.ingestion.parsing.limits import ParseLimits
    from ragsvc.models.chunks import ParsedText


class Parser(Protocol):
    """Turns a file of one type into canonical text with anchors, or raises DocumentRejected."""

    def __call__(self, source: SourceFile, limits: ParseLimits, /) -> ParsedText: ...


PARSERS: dict[str, Parser] = {
    PDF: parse_pdf,
    HTML: parse_html,
    MARKDOWN: parse_markdown,
    PLAIN_TEXT: parse_plain_text,
    DOCX: parse_docx,
}


def parse(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the text of a file of any supported type.

    Raises:
        DocumentRejected: the code says what the file turned out to be.
    """
    media_type = sniff(source, limits)
    parser = PARSERS.get(media_type)
    if parser is None:
        raise DocumentRejected(DocumentErrorCode.UNSUPPORTED_TYPE, f"{media_type} is not supported")
    parsed = parser(source, limits)
    if not has_text(parsed.text):
        raise DocumentRejected(DocumentErrorCode.NO_TEXT, _explain_silence(parsed))
    return parsed


def _explain_silence(parsed: ParsedText) -> str:
    if parsed.pages:
        return f"none of the {len(parsed.pages)} pages holds text; scanned pages need OCR first"
    return "the document holds no text"
