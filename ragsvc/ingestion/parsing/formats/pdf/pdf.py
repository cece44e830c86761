"""PDF: text page by page, with the outline as headings."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

import pypdfium2
import pypdfium2.raw as pdfium

from ragsvc.domain.chunks import Heading, PageSpan, ParsedText
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.detection.sniffing import PDF_HEADER_BYTES
from ragsvc.ingestion.parsing.formats.pdf.forms import PdfForm, open_form
from ragsvc.ingestion.parsing.formats.pdf.warnings import iterate_warnings
from ragsvc.ingestion.parsing.headings import MAX_LEVEL, make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder, join_spans
from ragsvc.media_types.formats import PDF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ragsvc.ingestion.parsing.limits import ParseLimits
from ragsvc.ingestion.parsing.detection.sniffing import SourceFile

MAX_OUTLINE_ENTRIES = 50_000
TAIL_BYTES = 64 * 1024
END_MARK = re.compile(rb".*(?:startxref|%%EOF)", re.DOTALL)
OBJECT = re.compile(rb"\b\d{1,10}\s{1,10}\d{1,5}\s{1,10}obj\b")
LINEARIZED_LENGTH = re.compile(rb"/Linearized\b.{0,300}?/L\s+(\d+)", re.DOTALL)
# pdfium's marker for a word hyphenated at the end of a line; removing it joins the word.
HYPHENATION = "\x02"
# Chapter numbers are often printed but not part of the outline entry.
NUMBER = r"(?:[0-9IVXLC.]{1,12}[ \t]+)?"


def parse_pdf(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the text of all pages in pdfium's reading order, each followed by its filled-in form fields.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    with closing(_open(source.path)) as document:
        _refuse_truncated(source.path)
        page_count = len(document)
        if page_count > limits.max_pages:
            raise DocumentRejected(
                DocumentErrorCode.LIMIT_EXCEEDED, f"the PDF has {page_count:,} pages; the limit is {limits.max_pages:,}"
            )
        builder = TextBuilder(limits.max_text_chars)
        pages: list[PageSpan] = []
        with open_form(document) as form:
            for index in range(page_count):
                pages.append(_write_page(document, index, builder, form))
                source.progress.report(index + 1, page_count)
        text = builder.build()
        headings = tuple(_locate_headings(text, pages, _read_outline(document)))
        warnings = tuple(iterate_warnings(document, pages))
    return ParsedText(text=text, pages=tuple(pages), headings=headings, warnings=warnings, media_type=PDF)


def _open(path: Path) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(str(path))
    except pypdfium2.PdfiumError as error:
        # pdfium has already tried the empty user password.
        if error.err_code in {pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY}:
            raise DocumentRejected(DocumentErrorCode.ENCRYPTED, "the PDF is password-protected") from error
        raise DocumentRejected(DocumentErrorCode.CORRUPT, "the PDF cannot be read") from error


def _refuse_truncated(path: Path) -> None:
    """Refuse a truncated file: pdfium would repair it and silently lose the rest.

    A file that ends with an end marker is complete, even without a cross-reference table, which pdfium rebuilds.
    """
    with path.open("rb") as file:
        head = file.read(PDF_HEADER_BYTES)
        size_bytes = path.stat().st_size
        file.seek(max(size_bytes - TAIL_BYTES, 0))
        tail = file.read()
    linearized = LINEARIZED_LENGTH.search(head)
    has_end = b"startxref" in tail or tail.rstrip().endswith(b"%%EOF")
    is_truncated = linearized is not None and int(linearized[1]) > size_bytes
    if not has_end or is_truncated or _ends_in_truncated_update(tail):
        raise DocumentRejected(DocumentErrorCode.CORRUPT, "the PDF is truncated")


def _ends_in_truncated_update(tail: bytes) -> bool:
    """Return whether objects follow the last end marker. They are a truncated update, which pdfium would ignore.

    Any other bytes there are harmless.
    """
    end = END_MARK.match(tail)
    return end is not None and OBJECT.search(tail, end.end()) is not None


def _write_page(document: pypdfium2.PdfDocument, index: int, builder: TextBuilder, form: PdfForm | None) -> PageSpan:
    """Write the text of a page, then the form fields on it."""
    try:
        with closing(document[index]) as page:
            spans = [builder.append(_read_text(page, index, builder.max_chars - builder.length))]
            if form is not None:
                spans += [builder.append(line) for line in form.iterate_lines(page)]
    except pypdfium2.PdfiumError as error:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, f"page {index + 1} of the PDF cannot be read") from error
    start, end = join_spans(spans)
    return PageSpan(page=index + 1, char_start=start, char_end=end)


def _read_text(page: pypdfium2.PdfPage, index: int, max_chars: int) -> str:
    with closing(page.get_textpage()) as text_page:
        if text_page.count_chars() > max_chars:
            raise DocumentRejected(
                DocumentErrorCode.LIMIT_EXCEEDED, f"the text is too long: page {index + 1} exceeds the limit"
            )
        text: str = text_page.get_text_bounded()
    return text.replace(HYPHENATION, "").strip()


def _read_outline(document: pypdfium2.PdfDocument) -> Iterator[tuple[int, str, int]]:
    """Yield (level, title, page index) for the outline entries that point to a page."""
    for count, bookmark in enumerate(document.get_toc(max_depth=MAX_LEVEL)):
        if count == MAX_OUTLINE_ENTRIES:
            return
        destination = bookmark.get_dest()
        page_index = destination.get_index() if destination else None
        if page_index is not None:
            try:
                title = bookmark.get_title()
            except UnicodeDecodeError:
                continue
            yield bookmark.level + 1, title, page_index


def _locate_headings(text: str, pages: list[PageSpan], outline: Iterator[tuple[int, str, int]]) -> Iterator[Heading]:
    """Yield each heading at its printed title, or else at the start of its page. Skip entries that are out of order."""
    position = 0
    for level, title, page_index in outline:
        if page_index >= len(pages):
            continue
        page = pages[page_index]
        if page.char_end < position:
            continue
        position = max(position, page.char_start)
        heading = make_heading(level, title, position)
        if heading is None:
            continue
        printed = _find_title(text, heading.title, position, page.char_end)
        if printed is not None:
            position = printed
        yield Heading(level=heading.level, title=heading.title, char_start=position)


def _find_title(text: str, title: str, start: int, end: int) -> int | None:
    words = r"\s+".join(map(re.escape, title.removesuffix("…").split()))
    match = re.compile(rf"^{NUMBER}{words}", re.IGNORECASE | re.MULTILINE).search(text, start, end)
    return match.start() if match else None
