"""Makes Word documents, zip archives and what pretends to be one."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import docx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docx.document import Document

OLE2_HEADER = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def save(document: Document) -> bytes:
    """Return the bytes of a Word document."""
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def make_docx(*paragraphs: str | tuple[str, str]) -> bytes:
    """Return a Word document; a pair is (style, text)."""
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
    """Return the package with another content for one entry."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    return make_zip(entries | {name: content})


def read_entry(package: bytes, name: str) -> bytes:
    """Return one entry's content."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return archive.read(name)


def make_ole2(stream: str) -> bytes:
    """Return a compound file whose directory names a stream."""
    return OLE2_HEADER + stream.encode("utf-16-le").ljust(512, b"\0")
