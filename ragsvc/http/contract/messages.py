"""Words the messages of pydantic for people who do not know it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_core import ErrorDetails

EXPECTED = "must be "
# What people try, from other APIs, and what it is called here.
_OTHER_NAMES = {
    "top_k": "limit", "k": "limit", "n": "limit", "size": "limit", "page_size": "limit", "max_results": "limit",
    "q": "query", "text": "query", "prompt": "content", "question": "content", "message": "content",
    "collection": "collection_id", "tags": "attributes", "metadata": "attributes", "page": "cursor",
    "score_threshold": "min_score", "threshold": "min_score",
}  # fmt: skip
_KINDS = {
    "string": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "uuid": "an id",
}
_MESSAGES = {
    "missing": "is missing",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "has the unknown {discriminator} '{tag}'; allowed: {expected_tags}",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "int_from_float": "must be an integer",
    "timezone_aware": "must have a time zone",
}


def word_message(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """Return what is wrong with a field of the model, and what is allowed instead."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return _word_unknown(problem["loc"], model)
    if kind == "union_tag_not_found":
        tags = [repr(tag) for each in _models_at(problem["loc"], model) for tag in _tags_of(each)]
        return f"needs a {context['discriminator']}: {', '.join(tags)}"
    if kind == "string_pattern_mismatch" and context["pattern"] == r"\S":
        return "must not be blank"
    if kind in _MESSAGES:
        return _MESSAGES[kind].format(**context)
    name = kind.removesuffix("_type").removesuffix("_parsing")
    if name in _KINDS:
        return f"{EXPECTED}{_KINDS[name]}"
    message = problem["msg"].removeprefix("Value error, ")
    return message.replace("Input should be ", EXPECTED)


def suggest(name: str, allowed: Sequence[str]) -> str:
    """Return which names are allowed instead of an unknown one, and which of them is probably meant."""
    close = get_close_matches(name, allowed, 1)
    meant = close[0] if close else _OTHER_NAMES.get(name)
    listed = f"allowed: {', '.join(sorted(allowed))}" if allowed else "none is allowed"
    return f"did you mean `{meant}`? ({listed})" if meant in allowed else listed


def _word_unknown(location: Sequence[str | int], model: type[BaseModel]) -> str:
    *parents, name = location
    allowed = {field for each in _models_at(parents, model) for field in each.model_fields}
    return f"is not a known field; {suggest(str(name), sorted(allowed))}"


def _models_at(location: Sequence[str | int], model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the models that fit at a location; its steps are fields, items of lists, and tags of unions."""
    models = [model]
    for step in location:
        inner = [each.model_fields[step] for each in models if step in each.model_fields]
        if inner:
            models = [found for field in inner for found in _models_in(field.annotation)]
        else:
            models = [each for each in models if step in _tags_of(each)] or models
    return models


def _tags_of(model: type[BaseModel]) -> tuple[object, ...]:
    """Return the values of the model's field `type`, by which unions choose the model."""
    field = model.model_fields.get("type")
    return get_args(field.annotation) if field else ()


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - any type
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
