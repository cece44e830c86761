"""EPUB: the pages of the spine in reading order, with their own headings or those of the table of contents."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ragsvc.domain.chunks import ParsedText
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.containers.xml_parts import read_xml
from ragsvc.ingestion.parsing.containers.zip_archives import open_archive
from ragsvc.ingestion.parsing.formats.web.html import read_markup, write_page
from ragsvc.ingestion.parsing.formats.web.html_writer import HtmlWriter
from ragsvc.media_types.formats import EPUB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zipfile import ZipFile

    from lxml.etree import _Element

    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
OPF = "{http://www.idpf.org/2007/opf}"
NCX = "{http://www.daisy.org/z3986/2005/ncx/}"
ROOT_FILE = "{urn:oasis:names:tc:opendocument:xmlns:container}rootfile"
CIPHER_REFERENCE = "{http://www.w3.org/2001/04/xmlenc#}CipherReference"
PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})


@dataclass(frozen=True, slots=True)
class _Item:
    """A file in the book's manifest."""

    name: str
    media_type: str
    properties: frozenset[str]


def parse_epub(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the book's text; pages without headings get their title from the table of contents.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    writer = HtmlWriter(limits.max_text_chars)
    with open_archive(source.path, limits) as archive:
        package = _find_package(archive)
        root = read_xml(archive, package)
        items = {element.get("id", ""): item for element, item in _iterate_items(root, package)}
        _refuse_encrypted(archive, items)
        titles = _read_contents(archive, items)
        spine = root.findall(f"{OPF}spine/{OPF}itemref")
        for number, reference in enumerate(spine, start=1):
            item = items.get(reference.get("idref", ""))
            if item and item.media_type in PAGES and "nav" not in item.properties:
                _write_item(archive, item, writer, titles)
            source.progress.report(number, len(spine))
    return ParsedText(
        text=writer.finish(), headings=tuple(writer.headings), tables=tuple(writer.tables), media_type=EPUB
    )


def _find_package(archive: ZipFile) -> str:
    for root_file in read_xml(archive, CONTAINER).iter(ROOT_FILE):
        return root_file.get("full-path", "")
    raise DocumentRejected(DocumentErrorCode.CORRUPT, "the book has no package document")


def _iterate_items(root: _Element, package: str) -> Iterator[tuple[_Element, _Item]]:
    for element in root.iterfind(f"{OPF}manifest/{OPF}item"):
        properties = frozenset(element.get("properties", "").split())
        name = _resolve(package, element.get("href", ""))
        yield element, _Item(name, element.get("media-type", "").lower(), properties)


def _refuse_encrypted(archive: ZipFile, items: Mapping[str, _Item]) -> None:
    """Refuse a book with encrypted pages; encrypted fonts are common and harmless."""
    if ENCRYPTION not in archive.NameToInfo:
        return
    pages = {item.name for item in items.values() if item.media_type in PAGES}
    encrypted = {
        unquote(reference.get("URI", "")) for reference in read_xml(archive, ENCRYPTION).iter(CIPHER_REFERENCE)
    }
    if pages & encrypted:
        raise DocumentRejected(DocumentErrorCode.ENCRYPTED, "the book is protected by DRM")


def _write_item(archive: ZipFile, item: _Item, writer: HtmlWriter, titles: Mapping[str, str]) -> None:
    try:
        data = archive.read(item.name)
    except KeyError:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, f"the book has no {item.name!r}") from None
    tree = read_markup(data, is_xml=True)
    # The title element of a page is usually the title of the book, so it is not used.
    title = "" if tree.css_first("h1, h2, h3, h4, h5, h6") is not None else titles.get(item.name, "")
    if title:
        writer.write_title(title)
    write_page(tree, writer, with_title=False)
    writer.break_page()


def _read_contents(archive: ZipFile, items: Mapping[str, _Item]) -> dict[str, str]:
    """Return the titles from the table of contents; the keys are the names of the pages in the archive."""
    titles: dict[str, str] = {}
    for item in items.values():
        if item.name not in archive.NameToInfo:
            continue
        if "nav" in item.properties:
            links = read_markup(archive.read(item.name), is_xml=True).css("nav a[href]")
            entries = [(link.attributes.get("href") or "", link.text()) for link in links]
        elif item.media_type == "application/x-dtbncx+xml":
            entries = list(_iterate_ncx(read_xml(archive, item.name)))
        else:
            continue
        for target, title in entries:
            titles.setdefault(_resolve(item.name, target), " ".join(title.split()))
    return titles


def _iterate_ncx(root: _Element) -> Iterator[tuple[str, str]]:
    for point in root.iter(f"{NCX}navPoint"):
        content = point.find(f"{NCX}content")
        yield content.get("src", "") if content is not None else "", point.findtext(f"{NCX}navLabel/{NCX}text") or ""


def _resolve(base: str, reference: str) -> str:
    path = unquote(reference.partition("#")[0])
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), path))
