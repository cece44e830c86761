"""JSON schemas of the models that validate and of the views that answer, and what is looked up in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    """Makes schemas without the titles that only repeat a field's name."""

    def field_title_should_be_set(self, _schema: object) -> bool:
        """Say no."""
        return False


@dataclass(frozen=True, slots=True)
class Schemas:
    """Each model's schema, and the definitions that schemas refer to, which go into the document's components."""

    by_model: dict[object, Schema]
    components: Schema

    def of(self, model: object) -> Schema:
        """Return a model's schema, mostly a reference."""
        return self.by_model[model]

    def resolved(self, model: object) -> Schema:
        """Return a model's schema itself."""
        return self.resolve(self.by_model[model])

    def resolve(self, schema: Schema) -> Schema:
        """Return what a schema refers to, or the schema."""
        reference = schema.get("$ref")
        return self.components[str(reference).rpartition("/")[2]] if reference else schema


def collect_schemas(operations: Iterable[Operation]) -> Schemas:
    """Return the schemas of all that the operations take and answer."""
    taken: dict[Any, str] = {ProblemView: "serialization"}
    for contract in operations:
        taken |= {model: "validation" for model in (contract.body, contract.form, contract.query) if model}
        for view in contract.responses.values():
            taken |= dict.fromkeys(_views_in(view), "serialization")
    inputs: Any = [(model, mode, TypeAdapter(model)) for model, mode in taken.items()]
    made, definitions = TypeAdapter.json_schemas(inputs, ref_template=REF, schema_generator=_Untitled)
    return Schemas({model: schema for (model, _mode), schema in made.items()}, definitions.get("$defs", {}))


def without_null(schema: Schema) -> Schema:
    """Return the schema of a parameter, or of a form's field, that may be left out: text has no null."""
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    if len(options) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return {**rest, **options[0]}


def _views_in(answer: object) -> Iterator[object]:
    if isinstance(answer, Media):
        yield from answer.events.values()
        if answer.json:
            yield answer.json
    elif answer is not None:
        yield answer
