"""Translates errors of the store's clients: missing objects, refused requests, temporary failures and outages."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from ragsvc.errors.work import OutageFailure, ProviderRejected, TransientFailure, WorkError

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRYABLE_STATUS = {429, *range(500, 600)}
MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchUpload", "404", "NotFound"}
# The store refuses the service's credentials, whatever it is asked for.
CREDENTIALS_REFUSED = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
PARTS_REFUSED = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall"}
_ERROR_CODE = re.compile("<Code>([^<]*)</Code>")


class ObjectMissing(ProviderRejected):
    """The store has no such object, bucket or upload."""


class PartsRefused(ProviderRejected):
    """The store cannot join these parts into an object."""


def code_of(error: ClientError) -> str:
    """Return the error code in the store's response, or an empty string."""
    return str(error.response.get("Error", {}).get("Code", ""))


def code_in(response_text: str) -> str:
    """Return the error code in the body of the store's response."""
    found = _ERROR_CODE.search(response_text)
    return found[1] if found else "no code"


@contextmanager
def translated() -> Iterator[None]:
    """Translate errors of the clients to ours."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        raise refusal(code_of(error), status) from error
    except (EndpointConnectionError, BotoConnectionError) as error:
        raise OutageFailure("storage_unreachable", "the object store cannot be reached") from error
    except aiohttp.ClientConnectorError as error:
        raise OutageFailure("storage_unreachable", "the object store cannot be reached") from error
    except (BotoCoreError, aiohttp.ClientError, OSError) as error:
        # The error's own text names the endpoint, which tenants must not learn.
        raise TransientFailure("storage_unavailable", f"the object store failed ({type(error).__name__})") from error


def refusal(code: str, status: int) -> WorkError:
    """Return the exception for an error response of the store."""
    if code in MISSING:
        return ObjectMissing("object_missing", f"the store has no such object ({code})", http_status=status)
    if code in PARTS_REFUSED:
        return PartsRefused("parts_refused", f"the store refused the parts ({code})", http_status=status)
    if status in RETRYABLE_STATUS or code in {"SlowDown", "RequestTimeout", "InternalError"}:
        return TransientFailure("storage_unavailable", f"the object store returned {code}", http_status=status)
    if code in CREDENTIALS_REFUSED:
        return OutageFailure("storage_unauthorized", f"the object store returned {code}", http_status=status)
    return ProviderRejected("storage_rejected", f"the object store returned {code}", http_status=status)
