"""Reads multipart forms that contain one file, which is streamed; text fields can precede or follow it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import unquote

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage
from pydantic import ValidationError

from ragsvc.errors.requests import InvalidJson, InvalidRequest, RequestError, UnsupportedMediaType
from ragsvc.http.contract.bodies import Body, parse_json
from ragsvc.http.contract.fields import explain_fields, refuse_nul
from ragsvc.http.contract.filenames import UNNAMED, clean_filename, mime_type_of
from ragsvc.http.contract.messages import suggest
from ragsvc.media_types.formats import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FILE_FIELD = "file"
BLOCK_BYTES = 256 * 1024
MAX_FIELD_BYTES = 64 * 1024
# Fields whose text is parsed as JSON, because form fields have no types.
JSON_FIELDS = frozenset({"attributes", "chunking", "metadata"})

AnyBody = TypeVar("AnyBody", bound=Body)


class FormReader(Generic[AnyBody]):
    """Reads a form that consists of a model's text fields and of a file in the field `file`.

    Call `open_file`, then read `blocks` to the end; `fields` is complete after that.
    """

    def __init__(self, request: web.Request, model: type[AnyBody]) -> None:
        if request.content_type != "multipart/form-data":
            raise UnsupportedMediaType("Send a form with Content-Type: multipart/form-data.")
        self.filename = UNNAMED
        self.mime_type = UNKNOWN
        self._request = request
        self._model = model
        self._values: dict[str, object] = {}
        self._file: BodyPartReader | None = None
        self._names = [FILE_FIELD, *model.model_fields]

    async def open_file(self) -> None:
        """Read the fields before the file, up to the start of its content.

        Raises:
            RequestError: the form is malformed.
            InvalidRequest: a field is unknown, repeated or invalid, or the file is missing.
        """
        try:
            self._parts = await self._request.multipart()
        except (ValueError, AssertionError) as error:
            raise RequestError(f"The form is malformed: {error}") from None
        await self._read_fields()
        if self._file is None:
            raise InvalidRequest(fields={FILE_FIELD: "is missing"})

    def fields(self) -> AnyBody:
        """Return the fields read so far.

        Raises:
            InvalidRequest: the fields do not match the model.
        """
        refuse_nul(self._values)
        try:
            return self._model.model_validate(self._values)
        except ValidationError as error:
            raise InvalidRequest(fields=explain_fields(error, self._values, self._model)) from None

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the file's content, then read the fields after it; raises like `open_file`."""
        if self._file is None:
            raise InvalidRequest(fields={FILE_FIELD: "is missing"})
        while block := await self._read(self._file, BLOCK_BYTES):
            yield block
        await self._read_fields()
        self.fields()

    def content_hash(self, file_sha256: bytes) -> bytes:
        """Return a SHA-256 hash of all fields and of the file's SHA-256 hash; identical forms have the same hash."""
        fields = orjson.dumps([self._values, self.filename, self.mime_type], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(fields + file_sha256).digest()

    async def _read_fields(self) -> None:
        while True:
            part = await self._next_part()
            if part is None:
                return
            name = part.name or ""
            if name in self._values or (name == FILE_FIELD and self._file is not None):
                raise InvalidRequest(fields={name: "must not be given more than once"})
            if name == FILE_FIELD:
                self._file = part
                self.filename = clean_filename(_decode_percent(part.filename or ""))
                self.mime_type = mime_type_of(part.headers.get("Content-Type", ""), self.filename)
                return
            if name not in self._model.model_fields:
                raise InvalidRequest(fields={name or "form": f"is not a known field; {suggest(name, self._names)}"})
            self._values[name] = await self._read_field(part, name)

    async def _next_part(self) -> BodyPartReader | None:
        try:
            part = await self._parts.next()
        except (ValueError, RuntimeError, BadHttpMessage) as error:
            raise RequestError(f"The form is malformed: {error}") from None
        if part is None or isinstance(part, BodyPartReader):
            return part
        raise RequestError("The form is malformed: nested forms are not supported")

    async def _read_field(self, part: BodyPartReader, name: str) -> object:
        text = bytearray()
        while block := await self._read(part, MAX_FIELD_BYTES):
            text += block
            if len(text) > MAX_FIELD_BYTES:
                raise InvalidRequest(fields={name: f"is longer than {MAX_FIELD_BYTES} bytes"})
        if name in JSON_FIELDS:
            try:
                return parse_json(bytes(text), field=name)
            except InvalidJson as error:
                raise InvalidRequest(fields={name: f"must be JSON: {error.detail}"}) from None
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(fields={name: "must be UTF-8"}) from None

    async def _read(self, part: BodyPartReader, size: int) -> bytes:
        try:
            return await part.read_chunk(size)
        except (ValueError, AssertionError) as error:
            raise RequestError(f"The form is malformed: {error}") from None


def _decode_percent(filename: str) -> str:
    """Decode the percent-encoding that clients can use for non-ASCII file names (RFC 7578, 4.2)."""
    try:
        return unquote(filename, errors="strict")
    except UnicodeDecodeError:
        return filename
