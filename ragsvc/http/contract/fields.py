"""Where in a request something is wrong: the path of the field as the client wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import ValidationError

WHOLE = "body"
# How pydantic begins what it says of every type that was tried.
_EXPECTED = "Input should be "


def explain_fields(error: ValidationError, value: object) -> dict[str, str]:
    """Return what is wrong with the value that was read, by field; of a field once, however many types were tried."""
    said: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        path = _find_path(problem["loc"], value, names_absent=problem["type"] == "missing")
        said.setdefault(".".join(path) or WHOLE, []).append(problem["msg"].removeprefix("Value error, "))
    return {path: _join(messages) for path, messages in said.items()}


def refuse_nul(value: object, field: str = WHOLE) -> None:
    """Refuse text that Postgres cannot store, wherever it stands in a JSON value; `field` is what the value is called.

    Raises:
        InvalidRequest: a string or a key holds a NUL character.
    """
    path = _find_nul(value)
    if path is not None:
        raise InvalidRequest(fields={".".join(map(str, path)) or field: "must not hold a NUL character"})


def find_deepest(value: object) -> str:
    """Return the field of a JSON object that nests deepest."""
    level = list(_children(value)) if isinstance(value, dict) else [(WHOLE, value)]
    while below := [(name, inner) for name, item in level for _, inner in _children(item)]:
        level = below
    return str(level[0][0])


def _find_nul(value: object) -> tuple[object, ...] | None:
    if isinstance(value, str):
        return () if "\0" in value else None
    pending: list[tuple[tuple[object, ...], object]] = [((), value)]
    while pending:
        path, holder = pending.pop()
        for name, inner in _children(holder):
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


def _find_path(steps: Sequence[str | int], value: object, *, names_absent: bool) -> list[str]:
    """Return the steps that lead through the value: the others name a type that was tried, or a tag."""
    path = []
    for step in steps:
        in_object = isinstance(value, dict) and step in value
        in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if in_object or in_list:
            path.append(str(step))
            value = value[step]  # type: ignore[index]
    # A field that is absent is where nothing leads to.
    return [*path, str(steps[-1])] if names_absent else path


def _join(messages: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(messages))
    if len(distinct) == 1 or not all(message.startswith(_EXPECTED) for message in distinct):
        return "; ".join(distinct)
    *others, last = (message.removeprefix(_EXPECTED) for message in distinct)
    return f"{_EXPECTED}{', '.join(others)} or {last}"
