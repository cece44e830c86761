"""Prints tables and text for people and JSON for scripts, without terminal control sequences."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KILO = 1000
# Width of tables in a pipe or a log.
PIPE_WIDTH = 200
# Control characters except line feed and tab, bidirectional overrides, and lone surrogates.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def make_console() -> Console:
    """Return a console on the current stdout that prints text literally, without markup."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def print_json(value: object) -> None:
    """Print one JSON document on one line."""
    print(orjson.dumps(value, default=str).decode(), flush=True)


def print_line(text: str = "") -> None:
    """Print a line and flush."""
    print(clean(text), flush=True)


def print_text(text: str) -> None:
    """Print text without a line break and flush."""
    sys.stdout.write(clean(text))
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows below a header."""
    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(show(value)) for value in row))
    make_console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one pair per line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        print_line(f"{name:<{width}}  {show(value)}")


def show(value: object) -> str:
    """Return a value in readable form."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case dict() | list() | tuple():
            return clean(orjson.dumps(value, default=str).decode()) if value else "-"
        case _:
            return clean(str(value))


def show_time(moment: str | None) -> str:
    """Return an API timestamp in UTC, to the second."""
    return "-" if moment is None else f"{moment[:19].replace('T', ' ')} UTC"


def show_size(size_bytes: float) -> str:
    """Return a size such as `61.4 kB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < KILO:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= KILO
    return f"{size_bytes:.1f} TB"


def show_source(span: Mapping[str, Any]) -> str:
    """Return where a text comes from: `handbook.pdf, page 3`, or `notes.md, Setup > Linux`."""
    filename = span.get("filename") or span.get("document_id") or "unknown document"
    if span.get("page_first") is not None:
        return f"{filename}, page {span['page_first']}"
    heading_path = span.get("heading_path") or []
    return f"{filename}, {' > '.join(heading_path)}" if heading_path else str(filename)


def shorten(text: str, width: int) -> str:
    """Return a text as one line of at most `width` characters."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= width else f"{one_line[: width - 1]}…"


def clean(text: str) -> str:
    """Return the text without terminal control characters: documents and their names are untrusted."""
    return STEERING.sub("", text)
