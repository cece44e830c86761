"""PPTX: slides in order, with tables, diagrams and speaker notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxml import etree

from ragsvc.ingestion.parsing.blocks import Block, iterate_row_blocks
from ragsvc.ingestion.parsing.containers.xml_parts import read_xml
from ragsvc.ingestion.parsing.containers.zip_archives import open_archive
from ragsvc.ingestion.parsing.formats.office.packages import RELATION_ID, find_main_part, iterate_relations
from ragsvc.ingestion.parsing.formats.office.slides import Slide, build_presentation
from ragsvc.media_types.formats import PPTX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zipfile import ZipFile

    from lxml.etree import _Element

    from ragsvc.domain.chunks import ParsedText
    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits
    from ragsvc.ingestion.parsing.progress import Progress

P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
TITLES = frozenset({"title", "ctrTitle"})
# Placeholders whose text is repeated on every slide.
REPEATED_PLACEHOLDERS = frozenset({"sldNum", "ftr", "dt", "hdr", "sldImg"})


def parse_pptx(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the text of the slides; each slide is a page.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `limit_exceeded`.
    """
    with open_archive(source.path, limits) as archive:
        return build_presentation(_iterate_slides(archive, source.progress), limits, media_type=PPTX)


def _iterate_slides(archive: ZipFile, progress: Progress) -> Iterator[Slide]:
    main = find_main_part(archive, default="ppt/presentation.xml")
    parts = {relation.id: relation.target for relation in iterate_relations(archive, main)}
    entries = read_xml(archive, main).findall(f"{P}sldIdLst/{P}sldId")
    for number, entry in enumerate(entries, start=1):
        part = parts.get(entry.get(RELATION_ID, ""))
        if part is not None:
            yield _read_slide(archive, part)
        progress.report(number, len(entries))


def _read_slide(archive: ZipFile, part: str) -> Slide:
    slide = Slide()
    for kind, block in _iterate_shapes(read_xml(archive, part)):
        if kind in TITLES and not slide.title:
            slide.title = " ".join(block.text.split())
        elif kind not in REPEATED_PLACEHOLDERS and block.text:
            slide.blocks.append(block)
    for relation in iterate_relations(archive, part):
        if relation.target not in archive.NameToInfo:
            continue
        if relation.kind == "diagramData":
            slide.blocks.extend(Block(line) for line in _iterate_paragraphs(read_xml(archive, relation.target)))
        elif relation.kind == "notesSlide":
            shapes = _iterate_shapes(read_xml(archive, relation.target))
            slide.notes.extend(block for kind, block in shapes if kind == "body" and block.text)
    return slide


def _iterate_shapes(root: _Element) -> Iterator[tuple[str, Block]]:
    """Yield (placeholder type, block) for each shape and table row, in drawing order; other shapes have the type ''."""
    # libxml2 limits the depth to 256 levels, so recursion is safe.
    for element in root.iterchildren(tag=etree.Element):
        if element.tag == f"{P}sp":
            placeholder = element.find(f"{P}nvSpPr/{P}nvPr/{P}ph")
            kind = placeholder.get("type", "body") if placeholder is not None else ""
            yield kind, Block("\n".join(_iterate_paragraphs(element)))
        elif element.tag == f"{A}tbl":
            yield from (("", row) for row in iterate_row_blocks(_iterate_rows(element)))
        elif element.tag != FALLBACK:
            yield from _iterate_shapes(element)


def _iterate_rows(table: _Element) -> Iterator[list[str]]:
    for row in table.iterfind(f"{A}tr"):
        yield [" ".join(_iterate_paragraphs(cell)) for cell in row.iterfind(f"{A}tc")]


def _iterate_paragraphs(root: _Element) -> Iterator[str]:
    for paragraph in root.iter(f"{A}p"):
        text = "".join(_read_run(run) for run in paragraph.iterchildren(tag=etree.Element)).strip()
        if text:
            yield text


def _read_run(run: _Element) -> str:
    if run.tag == f"{A}br":
        return "\n"
    return run.findtext(f"{A}t") or ""
