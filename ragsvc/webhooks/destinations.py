"""Restricts webhooks to the origins that the operator has listed.

This prevents SSRF: otherwise a workspace's URL could reach the operator's own network. An operator who lists a host
name trusts its DNS. Redirects are not followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yarl import URL

from ragsvc.errors.requests import WebhookRefused

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings


def check_url(url: str, settings: Settings) -> None:
    """Check a webhook's URL against WEBHOOK_ALLOWED_ORIGINS.

    Raises:
        WebhookRefused: the URL is malformed or has credentials, or its origin is not listed.
    """
    try:
        parsed = URL(url)
        origin = str(parsed.origin())
    except ValueError as error:
        raise WebhookRefused(f"The URL cannot be used: {error}") from None
    if parsed.user is not None or parsed.password is not None:
        raise WebhookRefused("A webhook's URL must not contain credentials; signatures authenticate deliveries.")
    if origin not in {str(URL(listed).origin()) for listed in settings.api.webhook_origins}:
        raise WebhookRefused(f"Webhooks to {origin} are not allowed: it is not in WEBHOOK_ALLOWED_ORIGINS.")
