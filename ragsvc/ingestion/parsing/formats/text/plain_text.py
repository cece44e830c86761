"""Plain text, and formats that are read as plain text: source code and XML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.domain.chunks import ParsedText
from ragsvc.errors.work import DocumentErrorCode, DocumentRejected
from ragsvc.ingestion.parsing.containers.xml_entities import refuse_entity_expansion
from ragsvc.ingestion.parsing.detection.decoding import declared_charset, decode
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.media_types.formats import XML

if TYPE_CHECKING:
    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits


def parse_plain_text(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the whole file as text, with the media type that it claims."""
    return ParsedText(text=read_canonical(source, limits), media_type=source.text_type)


def parse_xml(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the markup unchanged: nothing in it is expanded or fetched.

    Raises:
        DocumentRejected: as `read_canonical`, and `limit_exceeded` for entities that expand too far.
    """
    text = read_canonical(source, limits, is_markup=True)
    refuse_entity_expansion(text, max_chars=limits.max_text_chars)
    return ParsedText(text=text, media_type=XML)


def read_canonical(source: SourceFile, limits: ParseLimits, *, is_markup: bool = False) -> str:
    """Decode a text file and return its canonical form.

    Raises:
        DocumentRejected: `limit_exceeded` or `encoding`.
    """
    builder = TextBuilder(limits.max_text_chars)
    data = read_source(source, limits)
    declared = source.charset or (declared_charset(data) if is_markup else None)
    builder.append(decode(data, declared=declared))
    return builder.build()


def read_source(source: SourceFile, limits: ParseLimits) -> bytes:
    """Return the content of a file that is decoded as a whole.

    Raises:
        DocumentRejected: `limit_exceeded`.
    """
    size_bytes = source.path.stat().st_size
    if size_bytes > limits.max_source_bytes:
        raise DocumentRejected(
            DocumentErrorCode.LIMIT_EXCEEDED,
            f"the file has {size_bytes:,} bytes; the limit for text is {limits.max_source_bytes:,}",
        )
    return source.path.read_bytes()
