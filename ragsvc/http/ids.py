"""Public ids: a prefix that names the kind, and a UUID in hex."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BeforeValidator, WithJsonSchema

from ragsvc.errors import NotFound

Prefix = Literal["ws", "key", "file", "col", "doc", "chunk", "upl", "job", "chat", "msg", "run", "del", "aud"]

_HEX = re.compile(r"[0-9a-f]{32}")


def format_id(prefix: Prefix, value: UUID) -> str:
    """Return the public form of an id, such as `doc_018f…`."""
    return f"{prefix}_{value.hex}"


def parse_id(prefix: Prefix, text: str) -> UUID:
    """Return the UUID of a public id.

    Raises:
        NotFound: the text is no id of this kind, so nothing can have it: it answers like an unknown id.
    """
    kind, _, digits = text.partition("_")
    if kind != prefix or not _HEX.fullmatch(digits):
        raise NotFound
    return UUID(hex=digits)


def id_pattern(prefix: Prefix) -> str:
    """Return the regular expression that public ids of this kind match."""
    return rf"^{prefix}_[0-9a-f]{{32}}$"


def _read_reference(prefix: Prefix, value: object) -> object:
    # What begins like an id but names nothing is an unknown id (404); anything else is a malformed field (422).
    if not isinstance(value, str) or not value.startswith(f"{prefix}_"):
        raise ValueError(f"has to be an id that begins with {prefix}_")
    return parse_id(prefix, value)


# Types of fields that hold ids; they validate to a UUID.
CollectionId = Annotated[
    UUID,
    BeforeValidator(lambda value: _read_reference("col", value)),
    WithJsonSchema({"type": "string", "pattern": id_pattern("col")}),
]
FileId = Annotated[
    UUID,
    BeforeValidator(lambda value: _read_reference("file", value)),
    WithJsonSchema({"type": "string", "pattern": id_pattern("file")}),
]
WorkspaceId = Annotated[
    UUID,
    BeforeValidator(lambda value: _read_reference("ws", value)),
    WithJsonSchema({"type": "string", "pattern": id_pattern("ws")}),
]
