"""What commands print: tables and text for people, JSON for scripts, and nothing that would steer the terminal."""

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
# Wide enough that a table in a pipe or a log is not cut to the width of a terminal that is not there.
PIPE_WIDTH = 200
# Control characters but for line feed and tab, the overrides of writing direction, and halves of characters.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def make_console() -> Console:
    """Return a console on stdout as it is now; text is printed as it stands, without markup."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def print_json(value: object) -> None:
    """Print one JSON document on one line."""
    print(orjson.dumps(value, default=str).decode(), flush=True)


def print_line(text: str = "") -> None:
    """Print a line at once."""
    print(clean(text), flush=True)


def print_text(text: str) -> None:
    """Print a piece of a line at once."""
    sys.stdout.write(clean(text))
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their headings."""
    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(show(value)) for value in row))
    make_console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        print_line(f"{name:<{width}}  {show(value)}")


def show(value: object) -> str:
    """Return a value as people read it."""
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
    """Return a time of the API to the second, in UTC."""
    return "-" if moment is None else f"{moment[:19].replace('T', ' ')} UTC"


def show_size(size_bytes: float) -> str:
    """Return a size such as `61.4 kB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < KILO:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= KILO
    return f"{size_bytes:.1f} TB"


def show_place(place: Mapping[str, Any]) -> str:
    """Return where something stands: `handbook.pdf, page 3`, or `notes.md, Setup > Linux`."""
    filename = place.get("filename") or place.get("document_id") or "unknown document"
    if place.get("page_first") is not None:
        return f"{filename}, page {place['page_first']}"
    heading_path = place.get("heading_path") or []
    return f"{filename}, {' > '.join(heading_path)}" if heading_path else str(filename)


def shorten(text: str, width: int) -> str:
    """Return a text as one line of at most `width` characters."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= width else f"{one_line[: width - 1]}…"


def clean(text: str) -> str:
    """Return the text without what would steer a terminal: documents and their names come from strangers."""
    return STEERING.sub("", text)
