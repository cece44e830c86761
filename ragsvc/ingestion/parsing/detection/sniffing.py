"""Detects a file's type from its content; the file name and header only distinguish kinds of text."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.containers.zip_archives import open_archive
from ragsvc.ingestion.parsing.detection.decoding import BYTE_ORDER_MARKS, guess_utf16
from ragsvc.ingestion.parsing.progress import NO_PROGRESS, Progress
from ragsvc.media_types.content_types import bare_type, charset_parameter
from ragsvc.media_types.formats import HTML, MAGICS, OLE2_STREAMS, OOXML_TYPES, PDF, PHP, RTF, UNKNOWN, XML
from ragsvc.media_types.text_types import claimed_text_type, claims_text

if TYPE_CHECKING:
    from pathlib import Path
    from zipfile import ZipFile

    from ragsvc.ingestion.parsing.limits import ParseLimits

HEAD_BYTES = 64 * 1024
# PDF readers search this many bytes for the header, because mailers and printers insert lines before it.
PDF_HEADER_BYTES = 1024
# Text that merely mentions the header usually has other text on the same line.
PDF_HEADER = re.compile(rb"\A%PDF-|[\r\n\x00\xbf]%PDF-\d\.\d[\r\n]")
OLE2_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
CONTENT_TYPES_BYTES = 4 * 1024 * 1024
PDF_SUFFIXES = frozenset({".pdf"})
HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml", ".xht"})
# Tabs, line endings, form feeds, and the escape character of terminals and ISO-2022.
TEXT_CONTROLS = b"\t\n\x0b\x0c\r\x08\x1b"
BINARY_BYTES = bytes(byte for byte in range(32) if byte not in TEXT_CONTROLS) + b"\x7f"
BINARY_SHARE = 0.02
PROLOGUE = re.compile(r"(?:\s+|<\?[^>]*\?>|<!--.*?-->)*", re.DOTALL)
HTML_START = re.compile(r"<(?:!doctype\s+html|html|head|body|title|meta)\b", re.IGNORECASE)
SVG_START = re.compile(r"(?:<!doctype\s+svg[^>]*>\s*)?<(?:svg:)?svg\b", re.IGNORECASE)
PHP_START = re.compile(r"<\?(?:php\b|=)", re.IGNORECASE)
XML_START = re.compile(r"\s*<\?xml\b")
ANY_TAG = re.compile(r"<[a-zA-Z!/]")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An uploaded file. Its name and MIME type are unverified claims; the parser reports its progress to `progress`."""

    path: Path
    filename: str
    mime_type: str
    progress: Progress = NO_PROGRESS

    @property
    def charset(self) -> str | None:
        """The charset parameter of the MIME type."""
        return charset_parameter(self.mime_type)

    @property
    def text_type(self) -> str:
        """The type of text that the name or the MIME type claims."""
        return claimed_text_type(self.filename, self.mime_type)

    @property
    def claims_text(self) -> bool:
        """Whether the name or the MIME type claims that the file is text."""
        return claims_text(self.filename, self.mime_type)

    def claims(self, media_type: str, suffixes: frozenset[str]) -> bool:
        """Return whether the name has one of these suffixes or the MIME type is this one."""
        claimed = bare_type(self.mime_type)
        return claimed == media_type or PurePath(self.filename).suffix.lower() in suffixes


def sniff(source: SourceFile, limits: ParseLimits) -> str:
    """Return the media type of the file's content, whether supported or not.

    Raises:
        DocumentRejected: `empty_file`, `encrypted`, or any error of `open_archive`.
    """
    with source.path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise DocumentRejected(DocumentErrorCode.EMPTY_FILE, "the file is empty")
    is_text = source.claims_text and _is_clean(head)
    if _has_pdf_header(head, source, is_text=is_text):
        return PDF
    if head.startswith(ZIP_MAGICS):
        with open_archive(source.path, limits) as archive:
            return _sniff_zip(archive)
    if head.startswith(OLE2_MAGIC):
        return _sniff_ole2(source.path)
    return _sniff_magic(head, is_text=is_text) or _sniff_text(head, source)


def _has_pdf_header(head: bytes, source: SourceFile, *, is_text: bool) -> bool:
    if not PDF_HEADER.search(head[:PDF_HEADER_BYTES]):
        return False
    # A header after other lines can also be part of a text about PDF.
    return head.startswith(b"%PDF-") or source.claims(PDF, PDF_SUFFIXES) or not is_text


def _sniff_magic(head: bytes, *, is_text: bool) -> str | None:
    for magic, media_type in MAGICS:
        match = magic.match(head)
        # Text can begin with the ASCII signature of another format. RTF is text itself.
        if match and not (is_text and match[0].isascii() and media_type != RTF):
            return media_type
    return None


def _sniff_zip(archive: ZipFile) -> str:
    names = set(archive.namelist())
    if "[Content_Types].xml" in names:
        with archive.open("[Content_Types].xml") as part:
            content_types = part.read(CONTENT_TYPES_BYTES)
        for part_type, media_type in OOXML_TYPES:
            if part_type in content_types:
                return media_type
    if "mimetype" in names:
        with archive.open("mimetype") as part:
            declared = part.read(100).strip().decode("ascii", errors="ignore")
        if re.fullmatch(r"[\w.+-]+/[\w.+-]+", declared):
            return declared
    return "application/zip"


def _sniff_ole2(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Office wraps password-protected documents in this container.
        if content.find("EncryptedPackage".encode("utf-16-le")) >= 0:
            raise DocumentRejected(DocumentErrorCode.ENCRYPTED, "the document is password-protected")
        for stream, media_type in OLE2_STREAMS:
            if content.find(stream.encode("utf-16-le")) >= 0:
                return media_type
    return "application/x-ole-storage"


def _sniff_text(head: bytes, source: SourceFile) -> str:
    text = _decode_head(head)
    if text is None:
        return UNKNOWN
    start = PROLOGUE.match(text)
    opening = text[start.end() if start else 0 :][:1024]
    if SVG_START.match(opening):
        return "image/svg+xml"
    if source.text_type == PHP and PHP_START.search(text):
        return PHP
    if HTML_START.match(opening) or (source.claims(HTML, HTML_SUFFIXES) and ANY_TAG.search(text)):
        return HTML
    return XML if XML_START.match(text) else source.text_type


def _is_clean(head: bytes) -> bool:
    return len(head.translate(None, BINARY_BYTES)) == len(head)


def _decode_head(head: bytes) -> str | None:
    for mark, charset in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return head[len(mark) :].decode(charset, errors="ignore")
    charset16 = guess_utf16(head)
    if charset16 is not None:
        return head.decode(charset16, errors="ignore")
    binary = len(head) - len(head.translate(None, BINARY_BYTES))
    # Text can have a few stray NULs, which normalisation drops; a file with more of them is binary.
    return None if binary > len(head) * BINARY_SHARE else head.decode("latin-1")
