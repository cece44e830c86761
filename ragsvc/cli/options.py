"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from ragsvc.cli.exits import BadUsage

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Collection = Annotated[str | None, typer.Option(help="A collection's id; the default collection if omitted.")]
Collections = Annotated[
    list[str] | None,
    typer.Option(
        "--collection", metavar="ID", help="A collection's id; repeat it for more. All collections if omitted."
    ),
]
Filters = Annotated[
    str | None,
    typer.Option("--filters", help='A filter on attributes, as JSON: {"type":"eq","key":"year","value":2026}.'),
]
Limit = Annotated[int, typer.Option(min=1, max=100, help="The maximum number of results.")]


def read_json_object(text: str | None, *, option: str) -> dict[str, Any] | None:
    """Return an option's JSON object, or None if the option was not given.

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
        raise BadUsage(f"{option} must be a JSON object, such as {{}}")
    return value


def without_none(**fields: object) -> dict[str, object]:
    """Return the fields whose value is not None."""
    return {name: value for name, value in fields.items() if value is not None}
