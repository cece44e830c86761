"""Makes Office documents, ZIP archives and OLE2 compound files."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING

import docx
import pptx
import xlsxwriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docx.document import Document
    from pptx.presentation import Presentation

TRANSITIONAL_NAME = re.compile(rb"http://schemas\.openxmlformats\.org/(?!package/)(\w+)/2006/(\w+)")
OLE2_HEADER = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def save(document: Document | Presentation) -> bytes:
    """Return the bytes of a Word document or a presentation."""
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def make_docx(*paragraphs: str | tuple[str, str]) -> bytes:
    """Return a Word document; each pair is (style, text)."""
    document = docx.Document()
    for paragraph in paragraphs:
        style, text = paragraph if isinstance(paragraph, tuple) else ("Normal", paragraph)
        document.add_paragraph(text, style=style)
    return save(document)


def make_zip(entries: Mapping[str, bytes]) -> bytes:
    """Return a deflated archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def replace_entry(package: bytes, name: str, content: bytes) -> bytes:
    """Return the package with the content of one entry replaced."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    return make_zip(entries | {name: content})


def make_strict(package: bytes) -> bytes:
    """Return an Office document converted to strict Open XML (ISO 29500)."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    return make_zip(
        {
            name: TRANSITIONAL_NAME.sub(rb"http://purl.oclc.org/ooxml/\1/\2", content)
            for name, content in entries.items()
        }
    )


def read_entry(package: bytes, name: str) -> bytes:
    """Return the content of one entry."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return archive.read(name)


def make_ole2(stream: str) -> bytes:
    """Return a compound file whose directory lists a stream."""
    return OLE2_HEADER + stream.encode("utf-16-le").ljust(512, b"\0")


def make_pptx(*slides: tuple[str, list[str]], notes: str = "") -> bytes:
    """Return a presentation; a slide is (title, paragraphs), and the last one has the notes."""
    presentation = pptx.Presentation()
    for title, paragraphs in slides:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(paragraphs)
        if notes and (title, paragraphs) == slides[-1]:
            slide.notes_slide.notes_text_frame.text = notes
    return save(presentation)


def make_xlsx(sheets: Mapping[str, Sequence[Sequence[object]]]) -> bytes:
    """Return a workbook with these rows in each sheet."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True, "default_date_format": "yyyy-mm-dd"}) as workbook:
        for name, rows in sheets.items():
            sheet = workbook.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return buffer.getvalue()
