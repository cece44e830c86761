"""Hooks that teach schemathesis what the OpenAPI document cannot express."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis

if TYPE_CHECKING:
    from schemathesis import Case, HookContext, Response, SerializationContext
    from schemathesis.core.failures import Failure

SCHEMA_VALID_REJECTED = "ST202"
INVALID_ACCEPTED = "ST201"
SERVER_ERROR = "ST101"
# The process is overloaded or a store is unavailable. The document describes this response, so it is not a defect.
BUSY = 503
# Constraints that JSON schema cannot express: limits of the model in use, dependent fields, the current time, and
# digests of the body.
CHECKED_BEYOND_SCHEMA = {
    *("chunking.max_tokens", "chunking.overlap_tokens", "end", "first", "filters", "expires_at"),
    *("Content-MD5", "Repr-Digest", "Upload-Checksum"),
}
# JSON schema accepts 5.0 as an integer; the API does not.
NOT_AN_INTEGER = "must be an integer"
ANOTHER_COLLECTION = "a document stays in its collection"
# Problems that depend on state that the fuzzer does not know, such as reused keys and uploaded parts.
DEPENDS_ON_STATE = {
    *("webhook_refused", "idempotency_mismatch", "part_number_out_of_range", "part_size_mismatch", "digest_mismatch"),
}


@schemathesis.serializer("application/offset+octet-stream", "application/octet-stream")
def send_bytes(_context: SerializationContext, value: Any) -> Any:
    """Send the body unchanged."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Return whether a failure is a defect."""
    if failure.code == SERVER_ERROR and response.status_code == BUSY:
        return False
    if failure.code == INVALID_ACCEPTED and dict(case.headers or {}).get("X-HTTP-Method-Override") == "HEAD":
        # HEAD ignores the headers of PATCH, which the same operation describes.
        return False
    if failure.code != SCHEMA_VALID_REJECTED or response.status_code not in {400, 422}:
        return True
    if case.operation.path == "/companion/{upload_token}/s3/form":
        # The schema cannot express that fields must precede the file, as in S3's upload forms.
        return False
    problem = response.json()
    return problem["code"] not in DEPENDS_ON_STATE and not _is_beyond(problem)


def _is_beyond(problem: dict[str, Any]) -> bool:
    """Return whether a request was refused only for constraints that the schema cannot express."""
    fields = [(error["field"], error["message"]) for error in problem.get("errors", [])]
    # Under /tus the detail begins with the name of the invalid header.
    fields = fields or [(problem["detail"].partition(" ")[0], problem["detail"])]
    return all(
        field in CHECKED_BEYOND_SCHEMA or message in {NOT_AN_INTEGER, ANOTHER_COLLECTION} for field, message in fields
    )
