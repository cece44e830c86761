"""DOCX: paragraphs, lists and tables in document order; headings by paragraph style."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.blocks import build_text
from ragsvc.ingestion.parsing.containers.xml_parts import read_xml
from ragsvc.ingestion.parsing.containers.zip_archives import open_archive
from ragsvc.ingestion.parsing.formats.office.docx_blocks import iterate_blocks
from ragsvc.ingestion.parsing.formats.office.docx_styles import qn, read_styles
from ragsvc.ingestion.parsing.formats.office.packages import find_main_part, iterate_relations
from ragsvc.media_types.formats import DOCX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zipfile import ZipFile

    from lxml.etree import _Element

    from ragsvc.domain.chunks import ParsedText
    from ragsvc.ingestion.parsing.blocks import Block
    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.formats.office.docx_styles import Style
    from ragsvc.ingestion.parsing.limits import ParseLimits


@dataclass(frozen=True, slots=True)
class _Content:
    """The parts of a Word document that contain text, and its styles."""

    body: _Element
    styles: Mapping[str, Style]
    notes: list[_Element]

    def iterate(self) -> Iterator[Block]:
        """Yield the blocks of the body, then those of each note."""
        yield from iterate_blocks(self.body, self.styles)
        for part in self.notes:
            for note in part.iterchildren(tag=etree.Element):
                yield from iterate_blocks(note, self.styles)


def parse_docx(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the text of the body, followed by the footnotes and endnotes.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    with open_archive(source.path, limits) as archive:
        content = _read(archive)
    return build_text(content.iterate(), limits, media_type=DOCX)


def _read(archive: ZipFile) -> _Content:
    main = find_main_part(archive, default="word/document.xml")
    body = read_xml(archive, main).find(qn("body"))
    if body is None:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, "the Word document has no body")
    parts: dict[str, list[_Element]] = {"styles": [], "footnotes": [], "endnotes": []}
    for relation in iterate_relations(archive, main):
        if relation.kind in parts and relation.target in archive.NameToInfo:
            parts[relation.kind].append(read_xml(archive, relation.target))
    styles = {name: style for part in parts["styles"] for name, style in read_styles(part).items()}
    return _Content(body=body, styles=styles, notes=[*parts["footnotes"], *parts["endnotes"]])
