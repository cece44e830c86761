"""What a reader should know about a PDF that was read: pages without text, pages that call themselves otherwise."""

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
    """Yield what there is to know, in short."""
    without_text = [page.page for page in pages if page.char_start == page.char_end]
    if without_text:
        yield DocumentWarning(
            WarningCode.PAGES_WITHOUT_TEXT,
            f"{len(without_text):,} of {len(pages):,} pages hold no text; scanned pages need OCR to be found",
            tuple(without_text[:MAX_LISTED_PAGES]),
        )
    labelled = list(_iterate_labels(document, len(pages)))
    if labelled:
        shown = ", ".join(f"page {number} is {label!r}" for number, label in labelled[:MAX_LISTED_LABELS])
        yield DocumentWarning(
            WarningCode.PAGE_LABELS_DIFFER,
            f"pages are counted from the first; those printed on them differ: {shown}",
            tuple(number for number, _ in labelled[:MAX_LISTED_LABELS]),
        )


def _iterate_labels(document: PdfDocument, page_count: int) -> Iterator[tuple[int, str]]:
    """Yield (page, label) where a run of labels that go on by themselves begins, if any differs from its number."""
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
    # Roman numerals, letters and prefixes: one begins where the kind of label changes.
    return previous.isdecimal() == label.isdecimal() and previous.isalpha() == label.isalpha()
