"""Public ids in requests and in the API description: a prefix for the kind, and a UUID in hex."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from pydantic import BeforeValidator, WithJsonSchema

from ragsvc.errors.requests import NotFound

if TYPE_CHECKING:
    from ragsvc.domain.ids import Prefix

# What the resources are called, by the prefix of their ids.
KINDS: dict[str, str] = {
    "ws": "workspace",
    "key": "key",
    "col": "collection",
    "doc": "document",
    "file": "file",
    "chunk": "chunk",
    "upl": "upload session",
    "del": "deletion",
    "chat": "chat session",
    "msg": "message",
    "run": "run",
    "job": "job",
    "aud": "audit event",
    "hook": "webhook",
    "bulk": "bulk operation",
}

_HEX = re.compile(r"[0-9a-f]{32}")


def parse_id(prefix: Prefix, text: str) -> UUID:
    """Return the UUID of a public id.

    Raises:
        NotFound: the text is not an id of this kind; the response is the same as for an unknown id.
    """
    kind, _, digits = text.partition("_")
    if kind != prefix or not _HEX.fullmatch(digits):
        raise NotFound(kind=KINDS[prefix])
    return UUID(hex=digits)


def id_pattern(prefix: Prefix) -> str:
    """Return the regular expression that public ids of this kind match."""
    return rf"^{prefix}_[0-9a-f]{{32}}$"


def _read_reference(prefix: Prefix, value: object) -> object:
    # A malformed id with the right prefix is an unknown id (404); anything else is an invalid field (422).
    if not isinstance(value, str) or not value.startswith(f"{prefix}_"):
        raise ValueError(f"must be an id that begins with {prefix}_")
    return parse_id(prefix, value)


def id_schema(prefix: Prefix) -> dict[str, str]:
    """Return the JSON schema of public ids of this kind."""
    return {"type": "string", "pattern": id_pattern(prefix)}


# Types of request fields that contain an id; validation converts it to a UUID.
CollectionId = Annotated[
    UUID, BeforeValidator(lambda value: _read_reference("col", value)), WithJsonSchema(id_schema("col"))
]
FileId = Annotated[
    UUID, BeforeValidator(lambda value: _read_reference("file", value)), WithJsonSchema(id_schema("file"))
]
WorkspaceId = Annotated[
    UUID, BeforeValidator(lambda value: _read_reference("ws", value)), WithJsonSchema(id_schema("ws"))
]
SessionId = Annotated[
    UUID, BeforeValidator(lambda value: _read_reference("chat", value)), WithJsonSchema(id_schema("chat"))
]

# Types of response fields that contain an id or a time; the API description is generated from them.
ShownWorkspaceId = Annotated[str, WithJsonSchema(id_schema("ws"))]
ShownKeyId = Annotated[str, WithJsonSchema(id_schema("key"))]
ShownCollectionId = Annotated[str, WithJsonSchema(id_schema("col"))]
ShownFileId = Annotated[str, WithJsonSchema(id_schema("file"))]
ShownDocumentId = Annotated[str, WithJsonSchema(id_schema("doc"))]
ShownChunkId = Annotated[str, WithJsonSchema(id_schema("chunk"))]
ShownUploadId = Annotated[str, WithJsonSchema(id_schema("upl"))]
ShownDeletionId = Annotated[str, WithJsonSchema(id_schema("del"))]
ShownSessionId = Annotated[str, WithJsonSchema(id_schema("chat"))]
ShownMessageId = Annotated[str, WithJsonSchema(id_schema("msg"))]
ShownRunId = Annotated[str, WithJsonSchema(id_schema("run"))]
ShownJobId = Annotated[str, WithJsonSchema(id_schema("job"))]
ShownAuditEventId = Annotated[str, WithJsonSchema(id_schema("aud"))]
ShownWebhookId = Annotated[str, WithJsonSchema(id_schema("hook"))]
ShownBulkId = Annotated[str, WithJsonSchema(id_schema("bulk"))]
ShownTime = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
