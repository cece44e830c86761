"""OpenDocument: text documents with headings, presentations slide by slide, and spreadsheets row by row."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.blocks import build_text
from ragsvc.ingestion.parsing.containers.xml_parts import iterate_elements, read_xml
from ragsvc.ingestion.parsing.containers.zip_archives import open_archive
from ragsvc.ingestion.parsing.formats.office.odf_text import OASIS, OFFICE, TABLE, iterate_blocks, read_row
from ragsvc.ingestion.parsing.formats.office.sheets import WorkbookWriter
from ragsvc.ingestion.parsing.formats.office.slides import Slide, build_presentation
from ragsvc.media_types.formats import ODP, ODS, ODT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zipfile import ZipFile

    from lxml.etree import _Element

    from ragsvc.domain.chunks import ParsedText
    from ragsvc.ingestion.parsing.blocks import Block
    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

DRAW = f"{{{OASIS}drawing:1.0}}"
PRESENTATION = f"{{{OASIS}presentation:1.0}}"
ENCRYPTION = f"{{{OASIS}manifest:1.0}}encryption-data"
CONTENT, MANIFEST = "content.xml", "META-INF/manifest.xml"
REPEATED_CLASSES = frozenset({"header", "footer", "date-time", "page-number", "page"})


def parse_odt(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the text in document order; footnotes follow their paragraph.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    with _open(source, limits) as archive:
        body = _body(archive, "text")
    return build_text(iterate_blocks(body), limits, media_type=ODT)


def parse_odp(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the text of the slides; each slide is a page.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    with _open(source, limits) as archive:
        body = _body(archive, "presentation")
    slides = (_read_slide(page) for page in body.iterchildren(f"{DRAW}page"))
    return build_presentation(slides, limits, media_type=ODP)


def parse_ods(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the displayed values of all sheets, row by row.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    writer = WorkbookWriter(limits)
    with (
        _open(source, limits) as archive,
        closing(iterate_elements(archive, CONTENT, events=("start", "end"))) as elements,
    ):
        for event, element in elements:
            if event == "start" and element.tag == f"{TABLE}table":
                writer.write(element.get(f"{TABLE}name", ""), _iterate_rows(elements, element))
    return writer.finish(ODS)


def _iterate_rows(elements: Iterable[tuple[str, _Element]], table: _Element) -> Iterator[list[str]]:
    """Yield the rows of a sheet as it is read, and clear each of them. Tables nested in it belong to drawings."""
    for event, element in elements:
        if event == "start":
            continue
        if element.tag == f"{TABLE}table-row" and element.getparent() is not None:
            yield read_row(element)
            element.clear()
        elif element is table:
            return


@contextmanager
def _open(source: SourceFile, limits: ParseLimits) -> Iterator[ZipFile]:
    with open_archive(source.path, limits) as archive:
        if MANIFEST in archive.NameToInfo and next(read_xml(archive, MANIFEST).iter(ENCRYPTION), None) is not None:
            raise DocumentRejected(DocumentErrorCode.ENCRYPTED, "the document is password-protected")
        yield archive


def _body(archive: ZipFile, kind: str) -> _Element:
    body = read_xml(archive, CONTENT).find(f"{OFFICE}body/{OFFICE}{kind}")
    if body is None:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, "the document has no body")
    return body


def _read_slide(page: _Element) -> Slide:
    slide = Slide()
    for shape in page.iterchildren():
        blocks = list(iterate_blocks(shape)) if isinstance(shape.tag, str) else []
        if shape.tag == f"{PRESENTATION}notes":
            slide.notes.extend(_read_notes(shape))
        elif shape.get(f"{PRESENTATION}class") == "title" and not slide.title:
            slide.title = " ".join(" ".join(block.text for block in blocks).split())
        elif shape.get(f"{PRESENTATION}class") not in REPEATED_CLASSES:
            slide.blocks.extend(blocks)
    return slide


def _read_notes(notes: _Element) -> Iterator[Block]:
    for frame in notes.iterchildren(f"{DRAW}frame"):
        if frame.get(f"{PRESENTATION}class") == "notes":
            yield from iterate_blocks(frame)
