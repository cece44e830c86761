"""The page that documents every setting, generated from the groups: `python -m ragsvc.settings.documentation`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Literal, Union, get_args, get_origin

from pydantic import SecretStr

from ragsvc.settings.settings import FIELDS, GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

PAGE = Path("docs/configuration.md")
TITLES: Mapping[str, str] = {
    "stores": "Postgres, Redis and the object store",
    "llm": "Models",
    "api": "The API and its limits",
    "jobs": "Workers and jobs",
    "ingestion": "Ingestion",
    "answering": "Search and chat",
    "telemetry": "Logs and traces",
}
HEAD = """\
# Configuration

<!-- Generated from ragsvc/settings/groups/ by `make docs`. Change the descriptions there. -->

All settings are environment variables. Two are required; the others have defaults. If a value is invalid, the process
refuses to start and names the variable and the reason. An empty variable counts as unset.

Sizes are in bytes; names ending in `_S` are seconds and accept fractions.

## Secrets in files

A secret can be read from a file, as orchestrators mount them: append `_FILE` to the variable's name and set it to the
path, for example `DATABASE_URL_FILE=/run/secrets/database_url`. Setting both variables is refused. This works for
{secrets}.
"""
_TYPES: Mapping[type, str] = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}


def document_settings() -> str:
    """Return the page, as Markdown."""
    secrets = [f"`{name.upper()}`" for name, field in FIELDS.items() if _is_secret(field)]
    parts = [HEAD.format(secrets=f"{', '.join(secrets[:-1])} and {secrets[-1]}")]
    for name, group in GROUPS.items():
        rows = "\n".join(_rows(group.model_fields))
        parts.append(f"## {TITLES[name]}\n\n| variable | type | default | description |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _rows(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    for name, field in fields.items():
        # Escape the separator of table cells.
        description = (field.description or "").replace("|", "\\|")
        yield f"| `{name.upper()}` | {_describe_type(field)} | {_describe_default(field)} | {description} |"


def _describe_type(field: FieldInfo) -> str:
    if _is_secret(field):
        return "secret"
    annotation = _without_none(field.annotation)
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    return next((name for kind, name in _TYPES.items() if annotation is kind), "text")


def _describe_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case None | "":
            return ""
        case bool() as flag:
            return f"`{str(flag).lower()}`"
        case float() as number:
            return f"`{number:g}`"
        case value:
            return f"`{value}`"


def _is_secret(field: FieldInfo) -> bool:
    return _without_none(field.annotation) is SecretStr


def _without_none(annotation: object) -> object:
    """Return the type in an optional annotation, without its constraints."""
    if get_origin(annotation) in {Union, UnionType}:
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    # `Annotated[int, …]`; a Literal has this attribute too, but its parts are values.
    if hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    return annotation


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    path.write_text(document_settings(), encoding="utf-8")
