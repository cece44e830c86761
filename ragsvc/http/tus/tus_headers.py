"""Strict parsing of the request headers of tus 1.0."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from ragsvc.errors.requests import InvalidJson, InvalidRequest, RequestError, UnsupportedTusVersion
from ragsvc.http.contract.bodies import Attributes, Body, parse_json
from ragsvc.http.contract.fields import explain_fields, refuse_nul
from ragsvc.http.contract.ids import CollectionId
from ragsvc.http.contract.operations import HeaderField
from ragsvc.uploads.tus.appends import Checksum

if TYPE_CHECKING:
    from aiohttp import web

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,checksum,expiration"
CHECKSUMS = ("sha1", "sha256", "md5")
BODY_TYPE = "application/offset+octet-stream"
METADATA = "Upload-Metadata"
_BYTES = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_VERSION_SCHEMA = {"type": "string", "enum": [VERSION]}

RESUMABLE = HeaderField(
    "Tus-Resumable", "The version of the protocol.", {"type": "string", "enum": [VERSION]}, required=True
)
LENGTH = HeaderField("Upload-Length", "The file's size in bytes.", {**_BYTES, "minimum": 1}, required=True)
OFFSET = HeaderField(
    "Upload-Offset",
    "The offset of the body in the file; must equal the upload's current offset.",
    _BYTES,
    required=True,
)
DESCRIPTION = HeaderField(
    METADATA,
    "Pairs of a name and a base64 value; filename, filetype, collection_id and attributes (JSON) are used.",
)
CHECKSUM = HeaderField(
    "Upload-Checksum",
    f"An algorithm ({', '.join(CHECKSUMS)}) and the digest of the body in base64, separated by a space.",
    {
        "type": "string",
        "pattern": "^(sha1 [A-Za-z0-9+/]{27}=|sha256 [A-Za-z0-9+/]{43}=|md5 [A-Za-z0-9+/]{22}==)$",
    },
)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


class TusMetadata(Body):
    """The pairs of Upload-Metadata that the server uses; others are only returned to the client."""

    filename: Annotated[str, Field(max_length=1024)] = ""
    filetype: Annotated[str, Field(max_length=200)] = ""
    collection_id: CollectionId | None = None
    attributes: Attributes = Field(default_factory=dict)


def require_version(request: web.Request) -> None:
    """Check that the request uses the supported version.

    Raises:
        UnsupportedTusVersion: it uses another version, or the header is missing.
    """
    if request.headers.get("Tus-Resumable") != VERSION:
        raise UnsupportedTusVersion


def read_number(request: web.Request, header: str) -> int:
    """Return the value of a header that states a number of bytes.

    Raises:
        RequestError: the header is missing or not a number.
    """
    value = request.headers.get(header, "")
    if not _NUMBER.fullmatch(value):
        raise RequestError(f"{header} must be a whole number of bytes.")
    return int(value)


def read_checksum(request: web.Request) -> Checksum | None:
    """Return the checksum in Upload-Checksum, if any.

    Raises:
        RequestError: the header is malformed, or names an unsupported algorithm.
    """
    value = request.headers.get("Upload-Checksum")
    if value is None:
        return None
    algorithm, _, encoded = value.partition(" ")
    if algorithm not in CHECKSUMS:
        raise RequestError(f"Upload-Checksum supports only {', '.join(CHECKSUMS)}.")
    digest = _decode(encoded)
    if digest is None or len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise RequestError(f"Upload-Checksum is not the base64 of a {algorithm} digest.")
    return Checksum(algorithm, digest)


def read_metadata(raw: str) -> TusMetadata:
    """Return the metadata in an Upload-Metadata header.

    Raises:
        InvalidRequest: the header is malformed, or a value is invalid.
    """
    values: dict[str, object] = {}
    for name, text in _split(raw).items():
        if name == "attributes":
            try:
                values[name] = parse_json(text.encode(), field=name) if text else {}
            except InvalidJson as error:
                raise InvalidRequest(fields={name: error.detail}) from None
        elif text:
            values[name] = text
    refuse_nul(values, METADATA)
    try:
        return TusMetadata.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(fields=explain_fields(error, values, TusMetadata)) from None


def _split(raw: str) -> dict[str, str]:
    """Return the pairs that are used, decoded."""
    if not (raw.isascii() and raw.isprintable()):
        raise InvalidRequest(fields={METADATA: "must contain only printable ASCII characters"})
    pairs: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in raw.split(","))):
        name, _, encoded = pair.partition(" ")
        if name in pairs:
            raise InvalidRequest(fields={METADATA: f"must not contain {name} twice"})
        decoded = _decode(encoded.strip())
        if decoded is None:
            raise InvalidRequest(fields={METADATA: f"has a value of {name} that is not base64"})
        pairs[name] = decoded.decode("utf-8", "replace")
    return {name: text for name, text in pairs.items() if name in TusMetadata.model_fields}


def _decode(encoded: str) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
