"""Signatures as Standard Webhooks has them, so that its libraries verify them.

Source: https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import hmac

SECRET_PREFIX = "whsec_"  # noqa: S105 - begins every secret


def show_secret(secret: bytes) -> str:
    """Return the form in which receivers get the secret."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def sign(secret: bytes, body: bytes, *, delivery_id: str, sent_at_s: int) -> dict[str, str]:
    """Return the headers that prove who sent the body, which delivery it is, and when (seconds since 1970) it went."""
    signed = b".".join((delivery_id.encode(), str(sent_at_s).encode(), body))
    digest = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    return {"webhook-id": delivery_id, "webhook-timestamp": str(sent_at_s), "webhook-signature": f"v1,{digest}"}
