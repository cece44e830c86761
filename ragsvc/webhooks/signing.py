"""Signatures that follow the Standard Webhooks specification, so that its libraries can verify them.

Source: https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import hmac

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret


def show_secret(secret: bytes) -> str:
    """Return the secret in the form that receivers configure."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def sign(secret: bytes, body: bytes, *, delivery_id: str, sent_at_s: int) -> dict[str, str]:
    """Return the headers that identify and sign a delivery; `sent_at_s` is in Unix seconds."""
    signed = b".".join((delivery_id.encode(), str(sent_at_s).encode(), body))
    digest = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    return {"webhook-id": delivery_id, "webhook-timestamp": str(sent_at_s), "webhook-signature": f"v1,{digest}"}
