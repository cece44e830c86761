"""Header names, and descriptions of the headers that several routes read or send."""

from __future__ import annotations

from ragsvc.http.contract.ids import id_schema
from ragsvc.http.contract.operations import HeaderField

REQUEST_ID_HEADER = "X-Request-Id"
KEY_HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 200
REPLAYED_HEADER = "Idempotent-Replayed"

_COUNT = {"type": "integer", "minimum": 0}

# Of requests.
LAST_EVENT_ID = HeaderField(
    "Last-Event-ID",
    "The last event that is known already; counts more than `after`.",
    {"type": "string", "pattern": "^[0-9]{1,9}$"},
)
RANGE = HeaderField("Range", "One range of bytes; several, or what is malformed, get the whole file.")
IF_RANGE = HeaderField("If-Range", "The range is of this state of the file: its ETag or Last-Modified.")
IF_NONE_MATCH = HeaderField("If-None-Match", "ETags of the file that are known already.")
CONTENT_MD5 = HeaderField(
    "Content-MD5",
    "The bytes' md5 in base64; they are refused if it does not fit.",
    {"type": "string", "pattern": "^[A-Za-z0-9+/]{22}==$"},
)
REPR_DIGEST = HeaderField(
    "Repr-Digest",
    "The bytes' digest (RFC 9530), sha-256 or sha-512.",
    {
        "type": "string",
        "anyOf": [{"pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$"}, {"pattern": "^sha-512=:[A-Za-z0-9+/]{86}==:$"}],
    },
)

# Of answers.
LOCATION = HeaderField("Location", "Where it is.", required=True)
RUN_ID = HeaderField("X-Run-Id", "The run's id.", id_schema("run"), required=True)
ETAG = HeaderField("ETag", "Names the bytes.", required=True)
FILE_HEADERS = (
    ETAG,
    HeaderField("Content-Disposition", "An attachment, under the file's name.", required=True),
    HeaderField("Accept-Ranges", "`bytes`.", {"const": "bytes"}, required=True),
    HeaderField("Last-Modified", "When the file came.", required=True),
)
CONTENT_RANGE = HeaderField("Content-Range", "Which bytes of how many.", required=True)
UPLOAD_OFFSET = HeaderField("Upload-Offset", "Where the upload goes on, in bytes.", _COUNT, required=True)
UPLOAD_LENGTH = HeaderField("Upload-Length", "How many bytes the file has.", _COUNT, required=True)
UPLOAD_EXPIRES = HeaderField("Upload-Expires", "Until when the upload can go on.")
UPLOAD_METADATA = HeaderField("Upload-Metadata", "What the client told of the file.")
DOCUMENT_ID = HeaderField("Ragsvc-Document-Id", "The document that was made of the file.", id_schema("doc"))
