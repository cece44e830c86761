"""Reads the values of PDF form fields, which are not part of the page text that pdfium returns."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pypdfium2.raw as pdfium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypdfium2 import PdfDocument, PdfPage

BUTTON_TYPES = frozenset({pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON})
READ_TYPES = BUTTON_TYPES | {
    pdfium.FPDF_FORMFIELD_TEXTFIELD,
    pdfium.FPDF_FORMFIELD_COMBOBOX,
    pdfium.FPDF_FORMFIELD_LISTBOX,
}
# The value of a button that is not selected.
OFF = "Off"
# ISO 32000-1, table 228.
PASSWORD_FLAG = 1 << 13
HIDDEN_FLAGS = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW


class PdfForm:
    """The form of an open document; `form` is pdfium's form handle."""

    def __init__(self, form: pdfium.FPDF_FORMHANDLE) -> None:
        self._form = form

    def iterate_lines(self, page: PdfPage) -> Iterator[str]:
        """Yield `name: value` for each filled-in field on a page, except passwords and hidden fields."""
        emitted: set[str] = set()
        for index in range(pdfium.FPDFPage_GetAnnotCount(page)):
            annotation = pdfium.FPDFPage_GetAnnot(page, index)
            try:
                line = self._read(annotation) if self._is_shown(annotation) else ""
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)
            # The radio buttons of a group have the same name and value.
            if line and line not in emitted:
                emitted.add(line)
                yield line

    def _is_shown(self, annotation: pdfium.FPDF_ANNOTATION) -> bool:
        return (
            pdfium.FPDFAnnot_GetSubtype(annotation) == pdfium.FPDF_ANNOT_WIDGET
            and pdfium.FPDFAnnot_GetFormFieldType(self._form, annotation) in READ_TYPES
            and not pdfium.FPDFAnnot_GetFormFieldFlags(self._form, annotation) & PASSWORD_FLAG
            and not pdfium.FPDFAnnot_GetFlags(annotation) & HIDDEN_FLAGS
        )

    def _read(self, annotation: pdfium.FPDF_ANNOTATION) -> str:
        value = self._read_choice(annotation) or self._get(pdfium.FPDFAnnot_GetFormFieldValue, annotation)
        is_button = pdfium.FPDFAnnot_GetFormFieldType(self._form, annotation) in BUTTON_TYPES
        if not value or (is_button and value == OFF):
            return ""
        # The alternate name is the one that PDF viewers display.
        name = self._get(pdfium.FPDFAnnot_GetFormFieldAlternateName, annotation)
        return f"{name or self._get(pdfium.FPDFAnnot_GetFormFieldName, annotation)}: {value}"

    def _read_choice(self, annotation: pdfium.FPDF_ANNOTATION) -> str:
        """Return the labels of the selected options. The field's value would only be the export value of the first."""
        options = range(pdfium.FPDFAnnot_GetOptionCount(self._form, annotation))
        chosen = (index for index in options if pdfium.FPDFAnnot_IsOptionSelected(self._form, annotation, index))
        return ", ".join(self._get(pdfium.FPDFAnnot_GetOptionLabel, annotation, index) for index in chosen)

    def _get(self, getter: Callable[..., int], annotation: pdfium.FPDF_ANNOTATION, *option_index: int) -> str:
        size_bytes = getter(self._form, annotation, *option_index, None, 0)
        buffer = ctypes.create_string_buffer(size_bytes)
        getter(
            self._form, annotation, *option_index, ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), size_bytes
        )
        return buffer.raw.decode("utf-16-le", errors="ignore").rstrip("\0").strip()


@contextmanager
def open_form(document: PdfDocument) -> Iterator[PdfForm | None]:
    """Yield the document's form, or None if it has none. Callers must close all pages before the block ends."""
    form = None
    if document.get_formtype() != pdfium.FORMTYPE_NONE:
        callbacks = pdfium.FPDF_FORMFILLINFO(version=2)
        form = pdfium.FPDFDOC_InitFormFillEnvironment(document, callbacks)
    try:
        yield PdfForm(form) if form else None
    finally:
        if form:
            pdfium.FPDFDOC_ExitFormFillEnvironment(form)
