"""All errors of the service and their codes; `http.contract.problems` maps codes to HTTP statuses.

RagsvcError
├── StartupRefused            the configuration or environment does not permit this process to start
├── RequestError              a request cannot be served; nothing was stored
│   └── Unauthorized, Forbidden, NotFound, InvalidJson, InvalidRequest, EmptyFile, TooLarge, …
└── WorkError                 a job failed; the type says whether a retry can help
    ├── DocumentRejected      permanent: the content cannot be ingested
    ├── ProviderRejected      permanent: the model or the object store refused the request
    ├── TransientFailure      a retry can help
    ├── OutageFailure         a provider is unreachable: the job waits, and no attempt is counted
    ├── SubjectGone           the subject of the job was deleted: the job is cancelled
    └── LeaseLost             another worker has taken over the job
"""

from __future__ import annotations

from typing import ClassVar


def describe_error(error: BaseException) -> str:
    """Return the message of an error, or the name of its type if it has none (a bare TimeoutError, for example)."""
    return str(error) or type(error).__name__


class RagsvcError(Exception):
    """The service failed to process the request."""

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").splitlines()[0]
        super().__init__(self.detail)


class StartupRefused(RagsvcError):
    """The process cannot start."""

    code = "startup_refused"
