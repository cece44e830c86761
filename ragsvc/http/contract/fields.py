"""Explains validation errors by field, under the path that the client used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.errors.requests import InvalidRequest
from ragsvc.http.contract.messages import EXPECTED, word_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel, ValidationError

WHOLE = "body"


def explain_fields(error: ValidationError, value: object, model: type[BaseModel]) -> dict[str, str]:
    """Return one message for each invalid field of the model; the messages for the types of a union are joined."""
    messages: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False, include_input=False):
        path = _find_path(problem["loc"], value, is_missing=problem["type"] == "missing")
        messages.setdefault(".".join(path) or WHOLE, []).append(word_message(problem, model))
    return {path: _join(found) for path, found in messages.items()}


def refuse_nul(value: object, field: str = WHOLE) -> None:
    """Refuse NUL characters, which Postgres cannot store, in a JSON value; `field` names the value in the error.

    Raises:
        InvalidRequest: a string or a key contains a NUL character.
    """
    path = _find_nul(value)
    if path is not None:
        raise InvalidRequest(fields={".".join(map(str, path)) or field: "must not contain a NUL character"})


def find_deepest(value: object) -> str:
    """Return the name of the top-level field that is nested most deeply, or `body` if the value is not an object."""
    level = list(_children(value)) if isinstance(value, dict) else [(WHOLE, value)]
    while below := [(name, inner) for name, item in level for _, inner in _children(item)]:
        level = below
    return str(level[0][0])


def _find_nul(value: object) -> tuple[object, ...] | None:
    if isinstance(value, str):
        return () if "\0" in value else None
    pending: list[tuple[tuple[object, ...], object]] = [((), value)]
    while pending:
        path, parent = pending.pop()
        for name, inner in _children(parent):
            if isinstance(name, str) and "\0" in name:
                return path
            if isinstance(inner, str):
                if "\0" in inner:
                    return (*path, name)
            elif isinstance(inner, (dict, list)):
                pending.append(((*path, name), inner))
    return None


def _children(value: object) -> Iterable[tuple[object, object]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _find_path(steps: Sequence[str | int], value: object, *, is_missing: bool) -> list[str]:
    """Return the steps of an error's location that exist in the value; the others are types or tags of unions."""
    path = []
    for step in steps:
        in_object = isinstance(value, dict) and step in value
        in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if in_object or in_list:
            path.append(str(step))
            value = value[step]  # type: ignore[index]
    # A missing field is not in the value, so add its name.
    return [*path, str(steps[-1])] if is_missing else path


def _join(messages: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(messages))
    if len(distinct) == 1 or not all(message.startswith(EXPECTED) for message in distinct):
        return "; ".join(distinct)
    *others, last = (message.removeprefix(EXPECTED) for message in distinct)
    return f"{EXPECTED}{', '.join(others)} or {last}"
