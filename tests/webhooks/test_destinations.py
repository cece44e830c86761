"""Webhook URLs are restricted to the origins that the operator allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ragsvc.errors.requests import WebhookRefused
from ragsvc.settings.settings import Settings
from ragsvc.webhooks.destinations import check_url

if TYPE_CHECKING:
    from collections.abc import Mapping

URLS: Mapping[str, str] = {"database_url": "postgresql://nobody", "redis_url": "redis://nobody"}
ALLOWED = "https://hooks.example.com, http://127.0.0.1:9000,https://Other.example:8443"
SETTINGS = Settings.of({**URLS, "webhook_allowed_origins": ALLOWED})


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com/a/b?c=d",
        "https://HOOKS.example.com:443/",
        "http://127.0.0.1:9000/x",
        "https://other.example:8443/",
    ],
)
def test_a_listed_origin_is_accepted_with_any_path(url: str) -> None:
    check_url(url, SETTINGS)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://hooks.example.com:444/",
        "https://hooks.example.com.evil.example/",
        "https://evil.example/https://hooks.example.com/",
        "https://evil.example#@hooks.example.com/",
        "https://hooks.example.com@evil.example/",
        "https://user:secret@hooks.example.com/",
        "http://127.0.0.1:9001/",
        "http://localhost:9000/",
        "http://[::1]:9000/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "//hooks.example.com/",
        "/relative",
        "https://",
        "https://hooks.example.com:port/",
        "gopher://hooks.example.com/",
        "",
        "\x00",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(WebhookRefused):
        check_url(url, SETTINGS)


@given(st.text(max_size=60))
def test_no_text_bypasses_the_list(text: str) -> None:
    for url in (text, f"https://{text}", f"https://{text}@hooks.example.com", f"https://hooks.example.com{text}"):
        try:
            check_url(url, SETTINGS)
        except WebhookRefused:
            continue
        # aiohttp sends the request to the host that yarl parses from the URL.
        assert URL(url).host in {"hooks.example.com", "127.0.0.1", "other.example"}


def test_without_a_list_every_url_is_refused() -> None:
    with pytest.raises(WebhookRefused, match="WEBHOOK_ALLOWED_ORIGINS"):
        check_url("https://hooks.example.com/", Settings.of(URLS))
