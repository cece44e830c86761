"""Collects the JSON schemas of request models and response views, and resolves references between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from ragsvc.http.contract.operations import Media
from ragsvc.http.contract.problems import ProblemView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ragsvc.http.contract.operations import Operation

Schema = dict[str, Any]

REF = "#/components/schemas/{model}"


class _Untitled(GenerateJsonSchema):
    """Generates schemas without titles, because they would only repeat the field names."""

    def field_title_should_be_set(self, _schema: object) -> bool:
        """Return False for every field."""
        return False


@dataclass(frozen=True, slots=True)
class Schemas:
    """The schemas by model, and the definitions that they share, which become components of the document."""

    by_model: dict[object, Schema]
    components: Schema

    def of(self, model: object) -> Schema:
        """Return a model's schema, which is usually a reference."""
        return self.by_model[model]

    def resolved(self, model: object) -> Schema:
        """Return a model's schema with a top-level reference resolved."""
        return self.resolve(self.by_model[model])

    def resolve(self, schema: Schema) -> Schema:
        """Return the schema that a reference points to, or the schema itself if it is not a reference."""
        reference = schema.get("$ref")
        return self.components[str(reference).rpartition("/")[2]] if reference else schema


def collect_schemas(operations: Iterable[Operation]) -> Schemas:
    """Return the schemas of all requests and responses of the operations."""
    modes: dict[Any, str] = {ProblemView: "serialization"}
    for contract in operations:
        modes |= {model: "validation" for model in (contract.body, contract.form, contract.query) if model}
        for view in contract.responses.values():
            modes |= dict.fromkeys(_views_in(view), "serialization")
    inputs: Any = [(model, mode, TypeAdapter(model)) for model, mode in modes.items()]
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=REF, schema_generator=_Untitled)
    return Schemas({model: schema for (model, _mode), schema in schemas.items()}, definitions.get("$defs", {}))


def state_defaults(schemas: Schemas) -> None:
    """State the defaults of bodies in their descriptions, because generators make fields with a default required."""
    for schema in schemas.components.values():
        for field in schema.get("properties", {}).values():
            default = field.pop("default", None)
            if default not in (None, {}, ""):
                stated = f"Default: `{orjson.dumps(default).decode()}`."
                field["description"] = f"{field.get('description', '')} {stated}".strip()


def without_null(schema: Schema) -> Schema:
    """Return the schema of an optional parameter or form field, without null: clients omit the field instead."""
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    if len(options) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return {**rest, **options[0]}


def _views_in(response: object) -> Iterator[object]:
    if isinstance(response, Media):
        yield from response.events.values()
        if response.json:
            yield response.json
    elif response is not None:
        yield response
