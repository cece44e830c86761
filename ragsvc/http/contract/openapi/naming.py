"""Names the schemas of the document for its readers and for generated clients."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragsvc.http.contract.openapi.schemas import Schema

_PREFIX = "#/components/schemas/"
_PAGE = re.compile(r"Page_(\w+?)(?:View)?_")
# Where the class's name without its suffix is taken or says too little.
_NAMES = {
    "AuditSubjectView": "AuditedObject",
    "CompanionFormView": "CompanionFormParams",
    "CompanionPartView": "CompanionStoredPart",
    "QueueView": "QueueState",
    "ScoresView": "HitScores",
    "SearchView": "SearchResults",
}


def name_schemas(document: Schema) -> Schema:
    """Return the document with short schema names, and without schemas that nothing refers to.

    The names of classes tell what a class is for (`DocumentView`, `SearchBody`); those of schemas tell what it contains
    (`Document`, `SearchRequest`). Pages need a title of their own, since generators name models by their titles.
    """
    schemas = document["components"]["schemas"]
    names = {name: _short(name) for name in schemas}
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise RuntimeError(f"two schemas are called {twice}: add one of them to _NAMES")
    renamed: Schema = _rename(document, names)
    components = {names[name]: schema for name, schema in renamed["components"]["schemas"].items()}
    for name, schema in components.items():
        if "title" in schema:
            schema["title"] = name
    renamed["components"]["schemas"] = components
    used = _references({**renamed, "components": {**renamed["components"], "schemas": {}}}, components)
    renamed["components"]["schemas"] = {name: schema for name, schema in components.items() if name in used}
    return renamed


def _short(name: str) -> str:
    if page := _PAGE.fullmatch(name):
        return f"{page[1]}Page"
    if name.endswith("Body"):
        return f"{name.removesuffix('Body')}Request"
    return _NAMES.get(name, name.removesuffix("View"))


def _rename(value: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        return [_rename(inner, names) for inner in value]
    if not isinstance(value, dict):
        return value
    renamed = {name: _rename(inner, names) for name, inner in value.items()}
    reference = renamed.get("$ref")
    if isinstance(reference, str) and reference.startswith(_PREFIX):
        renamed["$ref"] = _PREFIX + names[reference.removeprefix(_PREFIX)]
    mapping = renamed.get("mapping")
    if isinstance(mapping, dict) and "propertyName" in renamed:
        renamed["mapping"] = {tag: _PREFIX + names[target.removeprefix(_PREFIX)] for tag, target in mapping.items()}
    return renamed


def _references(value: object, schemas: Schema) -> set[str]:
    """Return the names of the schemas to which a value refers, directly or not."""
    found: set[str] = set()
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix(_PREFIX)
            if name in schemas and name not in found:
                found.add(name)
                pending.append(schemas[name])
        pending.extend(part.values() if isinstance(part, dict) else part if isinstance(part, list) else ())
    return found
