"""Arguments and options that several commands share, and the values they stand for."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from ragsvc.cli.exits import BadUsage

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Collection = Annotated[str | None, typer.Option(help="A collection's id; the default collection when left out.")]
Collections = Annotated[
    list[str] | None,
    typer.Option("--collection", metavar="ID", help="A collection's id, again for more; all when unset."),
]
Filters = Annotated[
    str | None, typer.Option("--filters", help='Over attributes, as JSON: {"type":"eq","key":"year","value":2026}.')
]
Limit = Annotated[int, typer.Option(min=1, max=100, help="How many at most.")]


def read_json_object(text: str | None, *, option: str) -> dict[str, Any] | None:
    """Return the JSON object that an option was given, None without one.

    Raises:
        BadUsage: the text is not a JSON object.
    """
    if text is None:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadUsage(f"{option} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadUsage(f"{option} has to be a JSON object, such as {{}}")
    return value


def without_none(**fields: object) -> dict[str, object]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
