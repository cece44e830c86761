"""The parser registry: maps each media type to its parser and parses files of any type."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ragsvc.domain.documents import DocumentWarning, WarningCode
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.detection.sniffing import SourceFile, sniff
from ragsvc.ingestion.parsing.formats.office.docx import parse_docx
from ragsvc.ingestion.parsing.formats.office.odf import parse_odp, parse_ods, parse_odt
from ragsvc.ingestion.parsing.formats.office.pptx import parse_pptx
from ragsvc.ingestion.parsing.formats.office.spreadsheet import parse_xls, parse_xlsx
from ragsvc.ingestion.parsing.formats.pdf.pdf import parse_pdf
from ragsvc.ingestion.parsing.formats.text.csv_rows import parse_csv
from ragsvc.ingestion.parsing.formats.text.json_text import parse_json, parse_json_lines
from ragsvc.ingestion.parsing.formats.text.markdown import parse_markdown
from ragsvc.ingestion.parsing.formats.text.plain_text import parse_plain_text, parse_xml
from ragsvc.ingestion.parsing.formats.text.rtf import parse_rtf
from ragsvc.ingestion.parsing.formats.web.epub import parse_epub
from ragsvc.ingestion.parsing.formats.web.html import parse_html
from ragsvc.ingestion.parsing.normalisation import has_text
from ragsvc.media_types.formats import (
    CSV,
    DOCX,
    EPUB,
    GRAMMARS,
    HTML,
    JSON,
    JSON_LINES,
    MARKDOWN,
    ODP,
    ODS,
    ODT,
    PDF,
    PLAIN_TEXT,
    PPTX,
    RTF,
    TSV,
    UNKNOWN,
    XLS,
    XLSX,
    XML,
)

if TYPE_CHECKING:
    from ragsvc.domain.chunks import ParsedText
    from ragsvc.ingestion.parsing.limits import ParseLimits


REPLACEMENT_CHARACTER = "\ufffd"


class Parser(Protocol):
    """Turns a file of one type into canonical text with anchors, or raises DocumentRejected."""

    def __call__(self, source: SourceFile, limits: ParseLimits, /) -> ParsedText: ...


PARSERS: dict[str, Parser] = {
    PDF: parse_pdf,
    HTML: parse_html,
    MARKDOWN: parse_markdown,
    PLAIN_TEXT: parse_plain_text,
    CSV: parse_csv,
    TSV: parse_csv,
    JSON: parse_json,
    JSON_LINES: parse_json_lines,
    XML: parse_xml,
    **dict.fromkeys(GRAMMARS, parse_plain_text),
    RTF: parse_rtf,
    DOCX: parse_docx,
    PPTX: parse_pptx,
    XLSX: parse_xlsx,
    XLS: parse_xls,
    ODT: parse_odt,
    ODP: parse_odp,
    ODS: parse_ods,
    EPUB: parse_epub,
}


def parse(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Detect the type of a file and return its canonical text.

    Raises:
        DocumentRejected: the file is unsupported, damaged or has no text; the code says which.
    """
    media_type = sniff(source, limits)
    parser = PARSERS.get(media_type)
    if parser is None:
        what = "the file has no format that can be read" if media_type == UNKNOWN else f"{media_type} is not supported"
        raise DocumentRejected(DocumentErrorCode.UNSUPPORTED_TYPE, what)
    parsed = parser(source, limits)
    if not has_text(parsed.text):
        raise DocumentRejected(DocumentErrorCode.NO_TEXT, _explain_missing_text(parsed))
    damaged = parsed.text.count(REPLACEMENT_CHARACTER)
    if damaged:
        message = f"{damaged:,} characters could not be read and were replaced by {REPLACEMENT_CHARACTER}"
        warning = DocumentWarning(WarningCode.DAMAGED_CHARACTERS, message)
        parsed = replace(parsed, warnings=(*parsed.warnings, warning))
    return parsed


def _explain_missing_text(parsed: ParsedText) -> str:
    if parsed.pages:
        return f"none of the {len(parsed.pages)} pages contains text; scanned pages need OCR first"
    return "the document contains no text"
