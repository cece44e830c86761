"""Reads XML parts of zipped documents without expanding entities or fetching anything."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lxml import etree

from ragsvc.errors.work import DocumentErrorCode, DocumentRejected

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from zipfile import ZipFile, ZipInfo

    from lxml.etree import _Element

# A parsed tree takes about eight times the memory of its source.
MAX_TREE_BYTES = 96 * 1024 * 1024
# Office programs can save "strict" Open XML (ISO 29500): the same elements in different namespaces.
STRICT_HOST = b"purl.oclc.org/ooxml/"
STRICT_TAG = re.compile(rb"<[^<>]*?http://purl\.oclc\.org/ooxml/[^<>]*")
STRICT_NAME = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)")
TRANSITIONAL_NAME = rb"http://schemas.openxmlformats.org/\1/2006/\2"


def read_xml(archive: ZipFile, name: str) -> _Element:
    """Return the root element of a part, with the namespaces of strict Open XML replaced by transitional ones.

    Raises:
        DocumentRejected: `corrupt` if the part is missing or malformed; `limit_exceeded`.
    """
    entry = _find(archive, name)
    if entry.file_size > MAX_TREE_BYTES:
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED, f"{name!r} has {entry.file_size:,} bytes; the limit is {MAX_TREE_BYTES:,}"
        )
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    with archive.open(entry) as part, xml_errors(name):
        root = etree.fromstring(_rename_strict(part.read()), parser)
    refuse_entities(root)
    return root


def iterate_elements(archive: ZipFile, name: str, *, events: tuple[str, ...]) -> Generator[tuple[str, _Element]]:
    """Yield (event, element) while a part is read; callers must clear elements and close the generator.

    Raises:
        DocumentRejected: as `read_xml` does.
    """
    with archive.open(_find(archive, name)) as part, xml_errors(name):
        parsing = etree.iterparse(part, events=events, resolve_entities=False, no_network=True, load_dtd=False)
        is_first = True
        for event, element in parsing:
            if is_first:
                refuse_entities(element)
                is_first = False
            yield event, element


def refuse_entities(root: _Element) -> None:
    """Refuse a document that declares its own entities, because expansion attacks do, and office programs never do."""
    subset = root.getroottree().docinfo.internalDTD
    if subset is not None and any(True for _ in subset.iterentities()):  # type: ignore[attr-defined]  # not in the stubs
        raise DocumentRejected(DocumentErrorCode.LIMIT_EXCEEDED, "the document's XML declares its own entities")


@contextmanager
def xml_errors(name: str) -> Iterator[None]:
    """Convert libxml2's syntax errors to DocumentRejected."""
    try:
        yield
    except etree.XMLSyntaxError as error:
        # libxml2 has its own limits for depth and size, which office programs do not exceed.
        huge = any(word in str(error).lower() for word in ("depth", "huge", "amplification", "too long"))
        code = DocumentErrorCode.LIMIT_EXCEEDED if huge else DocumentErrorCode.CORRUPT
        raise DocumentRejected(code, f"{name} cannot be read: {error}") from error


def _rename_strict(markup: bytes) -> bytes:
    """Return the part with transitional names in its tags; its text is unchanged."""
    if STRICT_HOST not in markup:
        return markup
    return STRICT_TAG.sub(lambda tag: STRICT_NAME.sub(TRANSITIONAL_NAME, tag[0]), markup)


def _find(archive: ZipFile, name: str) -> ZipInfo:
    try:
        return archive.getinfo(name)
    except KeyError:
        raise DocumentRejected(DocumentErrorCode.CORRUPT, f"the document has no {name!r}") from None
