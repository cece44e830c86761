"""Where a webhook may point: to an origin that the operator has listed, and nowhere else.

A workspace's URL would otherwise make the service ask its operator's own network. Names are the operator's too: who
lists a host trusts its name server. Redirects are not followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yarl import URL

from ragsvc.errors import WebhookRefused

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings


def check_url(url: str, settings: Settings) -> None:
    """Check a webhook's URL against WEBHOOK_ALLOWED_ORIGINS.

    Raises:
        WebhookRefused: it is no URL, carries a user, or its origin is not listed.
    """
    try:
        parsed = URL(url)
        origin = str(parsed.origin())
    except ValueError as error:
        raise WebhookRefused(f"The URL cannot be used: {error}") from None
    if parsed.user is not None or parsed.password is not None:
        raise WebhookRefused("A webhook's URL carries no user and no password: its signature is what proves it.")
    if origin not in {str(URL(listed).origin()) for listed in settings.api.webhook_origins}:
        raise WebhookRefused(f"Webhooks may not be sent to {origin}: an operator lists it in WEBHOOK_ALLOWED_ORIGINS.")
