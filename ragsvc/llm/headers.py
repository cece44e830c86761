"""Headers of the SDK that are left out: they tell of this machine, and every open answer would keep them."""

from __future__ import annotations

from openai import Omit

# Of a client, for all its requests.
NOT_OF_CLIENTS = {
    f"X-Stainless-{name}": Omit()
    for name in ("Arch", "Async", "Lang", "OS", "Package-Version", "Runtime", "Runtime-Version")
}
# The SDK adds these to every request that does not say so itself.
NOT_OF_REQUESTS = {"X-Stainless-Retry-Count": Omit(), "X-Stainless-Read-Timeout": Omit()}
