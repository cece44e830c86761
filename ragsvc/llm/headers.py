"""SDK headers to omit: they describe this machine, and use memory for each open answer."""

from __future__ import annotations

from openai import Omit

# Sent by a client with all its requests.
OMITTED_CLIENT_HEADERS = {
    f"X-Stainless-{name}": Omit()
    for name in ("Arch", "Async", "Lang", "OS", "Package-Version", "Runtime", "Runtime-Version")
}
# Added by the SDK to each request, unless the request itself omits them.
OMITTED_REQUEST_HEADERS = {"X-Stainless-Retry-Count": Omit(), "X-Stainless-Read-Timeout": Omit()}
