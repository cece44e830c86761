"""What schemathesis cannot know of the API from its description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import schemathesis

if TYPE_CHECKING:
    from schemathesis import Case, HookContext, Response, SerializationContext
    from schemathesis.core.failures import Failure

SCHEMA_VALID_REJECTED = "ST202"
SERVER_ERROR = "ST101"
# What a process says that has too much to do, or that cannot reach a store just now: described, and no defect.
BUSY = 503
# What JSON schema cannot say: limits of the model in use, two fields that go together, the time of day, the digests of
# several algorithms, of which the fuzzer makes none.
JUDGED_BEYOND_THE_SCHEMA = {
    *("chunking.max_tokens", "chunking.overlap_tokens", "end", "first", "filters", "expires_at"),
    *("Content-MD5", "Repr-Digest", "Upload-Checksum"),
}
# To JSON schema 5.0 is a whole number, to us only 5 is.
NO_INTEGER = "Input should be a valid integer"
ANOTHER_COLLECTION = "a document stays in its collection"
# What the service knows and the fuzzer does not: that it had the key before, and what a file is made of.
JUDGED_BY_STATE = {
    *("webhook_refused", "idempotency_mismatch", "part_number_out_of_range", "part_size_mismatch", "digest_mismatch"),
}


@schemathesis.serializer("application/offset+octet-stream", "application/octet-stream")
def send_bytes(_context: SerializationContext, value: Any) -> Any:
    """Send a body as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Tell whether a failure is one."""
    if failure.code == SERVER_ERROR and response.status_code == BUSY:
        return False
    if failure.code != SCHEMA_VALID_REJECTED or response.status_code not in {400, 422}:
        return True
    if case.operation.path == "/companion/{upload_token}/s3/form":
        # Its fields stand before its file, as in the forms that stores take.
        return False
    problem = response.json()
    return problem["code"] not in JUDGED_BY_STATE and not _is_beyond(problem)


def _is_beyond(problem: dict[str, Any]) -> bool:
    """Tell whether all that is wrong with a request is what the schema cannot say."""
    fields = [(error["field"], error["message"]) for error in problem.get("errors", [])]
    # tus has its own way to say which header is wrong.
    fields = fields or [(problem["detail"].partition(" ")[0], problem["detail"])]
    return all(
        field in JUDGED_BEYOND_THE_SCHEMA or message in {NO_INTEGER, ANOTHER_COLLECTION} for field, message in fields
    )
