"""Header names, and descriptions of the headers that several routes read or send."""

from __future__ import annotations

from ragsvc.http.contract.ids import id_schema
from ragsvc.http.contract.operations import HeaderField

REQUEST_ID_HEADER = "X-Request-Id"
KEY_HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 200
REPLAYED_HEADER = "Idempotent-Replayed"

_COUNT = {"type": "integer", "minimum": 0}
_BYTES = {"type": "string", "enum": ["bytes"]}

# Request headers.
LAST_EVENT_ID = HeaderField(
    "Last-Event-ID",
    "The id of the last event received; overrides `after`.",
    {"type": "string", "pattern": "^[0-9]{1,9}$"},
)
RANGE = HeaderField(
    "Range", "A range of bytes. Multiple or malformed ranges are ignored, and the whole file is returned."
)
IF_RANGE = HeaderField(
    "If-Range", "The file's ETag or Last-Modified. If the file has changed, the whole file is returned."
)
IF_NONE_MATCH = HeaderField("If-None-Match", "ETags of cached copies. If one matches, the response is 304.")
CONTENT_MD5 = HeaderField(
    "Content-MD5",
    "MD5 of the body, in base64. A body that does not match is refused.",
    {"type": "string", "pattern": "^[A-Za-z0-9+/]{22}==$"},
)
REPR_DIGEST = HeaderField(
    "Repr-Digest",
    "Digest of the body (RFC 9530): sha-256 or sha-512. A body that does not match is refused.",
    {"type": "string", "pattern": "^(sha-256=:[A-Za-z0-9+/]{43}=:|sha-512=:[A-Za-z0-9+/]{86}==:)$"},
)

# Response headers.
LOCATION = HeaderField("Location", "The URL of the resource.", required=True)
RUN_ID = HeaderField("X-Run-Id", "The id of the run that generates the answer.", id_schema("run"), required=True)
ETAG = HeaderField("ETag", "Identifies the content, for If-None-Match and If-Range.", required=True)
FILE_HEADERS = (
    ETAG,
    HeaderField("Content-Disposition", "`attachment`, with the file's name.", required=True),
    HeaderField(
        "Accept-Ranges", "Range requests are supported, in bytes.", {"type": "string", "enum": ["bytes"]}, required=True
    ),
    HeaderField("Last-Modified", "When the file was uploaded.", required=True),
)
CONTENT_RANGE = HeaderField("Content-Range", "The range in the body, and the file's size.", required=True)
UPLOAD_OFFSET = HeaderField(
    "Upload-Offset", "Number of bytes received; the next request continues there.", _COUNT, required=True
)
UPLOAD_LENGTH = HeaderField("Upload-Length", "The file's size in bytes.", _COUNT, required=True)
UPLOAD_EXPIRES = HeaderField("Upload-Expires", "When an unfinished upload expires.")
UPLOAD_METADATA = HeaderField("Upload-Metadata", "The metadata that the client sent, unchanged.")
DOCUMENT_ID = HeaderField(
    "Ragsvc-Document-Id", "The id of the document; present once the upload is complete.", id_schema("doc")
)
