"""Warnings about a parsed PDF: pages without text, and page labels that differ from page numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ragsvc.domain.documents import DocumentWarning, WarningCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pypdfium2 import PdfDocument

    from ragsvc.domain.chunks import PageSpan

MAX_LISTED_PAGES = 1000
MAX_LISTED_LABELS = 20


def iterate_warnings(document: PdfDocument, pages: Sequence[PageSpan]) -> Iterator[DocumentWarning]:
    """Yield the warnings about a document."""
    without_text = [page.page for page in pages if page.char_start == page.char_end]
    if without_text:
        yield DocumentWarning(
            WarningCode.PAGES_WITHOUT_TEXT,
            f"{len(without_text):,} of {len(pages):,} pages contain no text; scanned pages need OCR to be searchable",
            tuple(without_text[:MAX_LISTED_PAGES]),
        )
    labelled = list(_iterate_labels(document, len(pages)))
    if labelled:
        shown = ", ".join(f"page {number} is {label!r}" for number, label in labelled[:MAX_LISTED_LABELS])
        yield DocumentWarning(
            WarningCode.PAGE_LABELS_DIFFER,
            f"page numbers count from the first page; the printed ones differ: {shown}",
            tuple(number for number, _ in labelled[:MAX_LISTED_LABELS]),
        )


def _iterate_labels(document: PdfDocument, page_count: int) -> Iterator[tuple[int, str]]:
    """Yield (page, label) at the start of each run of consecutive labels; nothing if all labels equal page numbers."""
    labels = [document.get_page_label(index) for index in range(page_count)]
    if not any(label and label != str(number) for number, label in enumerate(labels, start=1)):
        return
    before = [None, *labels]
    for number, (previous, label) in enumerate(pairwise(before), start=1):
        if label and (previous is None or not _is_next_label(previous, label)):
            yield number, label


def _is_next_label(previous: str, label: str) -> bool:
    if previous.isdecimal() and label.isdecimal():
        return int(label) == int(previous) + 1
    # Roman numerals, letters and prefixes: a new run begins where the kind of label changes.
    return previous.isdecimal() == label.isdecimal() and previous.isalpha() == label.isalpha()
