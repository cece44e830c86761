"""JSON: the source is the canonical text, with line breaks added to long lines. JSON Lines: each line is a row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ragsvc.domain.chunks import ParsedText, Table
from ragsvc.ingestion.parsing.formats.text.plain_text import read_canonical
from ragsvc.ingestion.parsing.normalisation import TextBuilder
from ragsvc.media_types.formats import JSON, JSON_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ragsvc.ingestion.parsing.detection.sniffing import SourceFile
    from ragsvc.ingestion.parsing.limits import ParseLimits

MAX_LINE_CHARS = 1000
LONG_LINE = re.compile(rf"[^\n]{{{MAX_LINE_CHARS},}}")
# Strings, short flat lists and empty containers are single tokens. An unterminated string extends to the end of the
# text: otherwise every quote in it would start another search to the end.
TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|\{\s*\}|\[[^"{}\[\]]{0,80}\]|[{}\[\],]|[^"{}\[\],]+', re.DOTALL)
INDENT = "  "
MAX_INDENTS = 8


def parse_json(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the source, reformatted if it has long lines; values are unchanged.

    Raises:
        DocumentRejected: `limit_exceeded` or `encoding`.
    """
    text = read_canonical(source, limits)
    if not LONG_LINE.search(text):
        return ParsedText(text=text, media_type=JSON)
    builder = TextBuilder(limits.max_text_chars)
    builder.append("".join(_reformat(text)))
    return ParsedText(text=builder.build(), media_type=JSON)


def parse_json_lines(source: SourceFile, limits: ParseLimits) -> ParsedText:
    """Return the source unchanged, as a table with a row for each line."""
    text = read_canonical(source, limits)
    starts = (0, *(match.end() for match in re.finditer(r"\n(?=[^\n])", text)))
    table = Table(char_start=0, char_end=len(text), row_starts=starts)
    return ParsedText(text=text, tables=(table,), media_type=JSON_LINES)


def _reformat(text: str) -> Iterator[str]:
    depth = 0
    for match in TOKEN.finditer(text):
        part = match[0]
        if part in {"{", "["}:
            depth += 1
            yield part + _line(depth)
        elif part in {"}", "]"}:
            depth -= 1
            yield _line(depth) + part
        elif part == ",":
            yield part + _line(depth)
        else:
            yield part if part[0] in '"[{' else " ".join(part.split()).replace(":", ": ")


def _line(depth: int) -> str:
    return "\n" + INDENT * min(max(depth, 0), MAX_INDENTS)
