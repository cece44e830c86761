"""Makes minimal OpenDocument files and EPUB books."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from tests.ingestion.parsing.formats.office_files import make_zip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMES = ("office", "text", "table", "presentation")
SPACES = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in NAMES)
SPACES += ' xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
MIMETYPE = "application/vnd.oasis.opendocument."
EMPTY_CELLS = '<table:table-cell table:number-columns-repeated="16000"/>'
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def make_open_document(kind: str, body: str, *, manifest: str = "") -> bytes:
    """Return a document of a kind (`text`, `spreadsheet` or `presentation`) with this XML as its body."""
    content = (
        f"<office:document-content {SPACES}><office:body><office:{kind}>{body}</office:{kind}></office:body>"
        "</office:document-content>"
    )
    entries = {"mimetype": f"{MIMETYPE}{kind}".encode(), "content.xml": content.encode()}
    return make_zip(entries | ({"META-INF/manifest.xml": manifest.encode()} if manifest else {}))


def make_odt(*blocks: tuple[int, str]) -> bytes:
    """Return a text document; a block is (heading level or 0, words)."""
    tags = {0: ("<text:p>", "</text:p>")}
    parts = []
    for level, words in blocks:
        opening, closing = tags.get(level, (f'<text:h text:outline-level="{level}">', "</text:h>"))
        parts.append(f"{opening}{escape(words)}{closing}")
    return make_open_document("text", "".join(parts))


def make_ods(sheets: Mapping[str, Sequence[Sequence[str]]]) -> bytes:
    """Return a spreadsheet, padded with empty cells and rows as office programs do."""
    body = ""
    for name, rows in sheets.items():
        body += f"<table:table table:name={quoteattr(name)}>"
        for row in rows:
            cells = "".join(f"<table:table-cell><text:p>{escape(cell)}</text:p></table:table-cell>" for cell in row)
            body += (
                f'<table:table-row>{cells}<table:table-cell table:number-columns-repeated="16000"/></table:table-row>'
            )
        body += (
            '<table:table-row table:number-rows-repeated="1048000"><table:table-cell/></table:table-row></table:table>'
        )
    return make_open_document("spreadsheet", body)


def make_odf_table(rows: Sequence[Sequence[str]]) -> str:
    """Return the XML of a table."""
    markup = "".join(
        "<table:table-row>"
        + "".join(f"<table:table-cell><text:p>{escape(cell)}</text:p></table:table-cell>" for cell in row)
        + "</table:table-row>"
        for row in rows
    )
    return f"<table:table>{markup}</table:table>"


def make_odp(*slides: tuple[str, list[str]], notes: str = "") -> bytes:
    """Return a presentation; a slide is (title, paragraphs), and all slides have the same notes."""
    body = ""
    for title, paragraphs in slides:
        words = "".join(f"<text:p>{escape(text)}</text:p>" for text in paragraphs)
        body += (
            '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>'
            f"{escape(title)}</text:p></draw:text-box></draw:frame><draw:frame><draw:text-box>{words}"
            '</draw:text-box></draw:frame><presentation:notes><draw:frame presentation:class="notes"><draw:text-box>'
            f"<text:p>{escape(notes)}</text:p></draw:text-box></draw:frame></presentation:notes></draw:page>"
        )
    return make_open_document("presentation", body)


def make_epub(
    pages: Sequence[str], *, contents: Sequence[str] = (), extra: Mapping[str, bytes] | None = None, nav: bool = True
) -> bytes:
    """Return a book of XHTML bodies; `contents` are the titles of its pages, in a nav document or in an NCX file."""
    names = [f"page {number}.xhtml" for number in range(len(pages))]
    hrefs = [name.replace(" ", "%20") for name in names]
    manifest = "".join(
        f'<item id="p{number}" href="{href}" media-type="application/xhtml+xml"/>' for number, href in enumerate(hrefs)
    )
    manifest += (
        '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        if nav
        else '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    )
    spine = "".join(f'<itemref idref="p{number}"/>' for number in range(len(pages)))
    package = (
        f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{manifest}</manifest><spine>{spine}</spine></package>'
    )
    links = "".join(f'<li><a href="{href}#top">{title}</a></li>' for href, title in zip(hrefs, contents, strict=False))
    points = "".join(
        f'<navPoint><navLabel><text>{title}</text></navLabel><content src="{href}"/></navPoint>'
        for href, title in zip(hrefs, contents, strict=False)
    )
    entries = {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": CONTAINER.encode(),
        "OEBPS/book.opf": package.encode(),
        "OEBPS/nav.xhtml": f"<html><body><nav><ol>{links}</ol></nav></body></html>".encode(),
        "OEBPS/toc.ncx": (
            '<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" "http://nowhere.invalid/ncx.dtd">'
            f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{points}</navMap></ncx>'
        ).encode(),
    }
    for name, page in zip(names, pages, strict=True):
        entries[f"OEBPS/{name}"] = f"<html><head><title>The Book</title></head><body>{page}</body></html>".encode()
    return make_zip(entries | dict(extra or {}))
