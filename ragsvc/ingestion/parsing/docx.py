"""DOCX: paragraphs, lists and tables in document order, headings by style."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import docx
from docx.exceptions import PythonDocxError
from docx.opc.constants import RELATIONSHIP_TYPE
from lxml import etree

from ragsvc.errors import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.docx_blocks import Block, iterate_blocks
from ragsvc.ingestion.parsing.docx_styles import read_styles
from ragsvc.ingestion.parsing.headings import make_heading
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.ingestion.parsing.sniffing import DOCX
from ragsvc.ingestion.parsing.xml_parts import refuse_entities, xml_errors
from ragsvc.ingestion.parsing.zip_archives import open_archive
from ragsvc.models.chunks import Heading, ParsedText

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from docx.document import Document
    from lxml.etree import _Element

    from ragsvc.ingestion.parsing.docx_styles import Style
    from ragsvc.ingestion.parsing.limits import ParseLimits
    from ragsvc.ingestion.parsing.sniffing import SourceFile

NOTES = (RELATIONSHIP_TYPE.FOOTNOTES, RELATIONSHIP_TYPE.ENDNOTES)
# What python-docx and the libraries below it raise on a damaged package.
DAMAGE = (PythonDocxError, BadZipFile, zlib.error, KeyError, ValueError, AttributeError, EOFError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class _Content:
    """The parts of a Word document that hold text."""

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
    """Return the body's text, then its foot- and endnotes.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    with open_archive(source.path, limits), xml_errors("the document"):
        content = _open(source.path)
    builder = TextBuilder(limits.max_text_chars)
    headings: list[Heading] = []
    previous: Block | None = None
    for block in content.iterate():
        dense = previous is not None and block.is_item and previous.is_item
        start, end = builder.append(block.text, separator="\n" if dense else "\n\n")
        heading = make_heading(block.level, block.text, start) if block.level and end > start else None
        if heading is not None:
            headings.append(heading)
        previous = block
    return ParsedText(text=builder.build(), headings=tuple(headings), media_type=DOCX)


def _open(path: Path) -> _Content:
    try:
        document = docx.Document(str(path))
        content = _Content(
            body=document.element.body, styles=read_styles(document.styles.element), notes=list(_read_notes(document))
        )
    except DAMAGE as error:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, "the Word document cannot be read") from error
    refuse_entities(document.element)
    return content


def _read_notes(document: Document) -> Iterator[_Element]:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    for relationship in document.part.rels.values():
        if relationship.reltype in NOTES and not relationship.is_external:
            yield etree.fromstring(relationship.target_part.blob, parser)
