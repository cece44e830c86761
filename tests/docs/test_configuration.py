"""The configuration page matches the settings that it is generated from."""

from __future__ import annotations

import re

from ragsvc.settings.documentation import document_settings
from ragsvc.settings.settings import FIELDS
from tests.docs.pages import read_page, section_of

PAGE = "docs/configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert read_page(PAGE) == document_settings(), "run `make docs`"


def test_every_setting_is_listed_once() -> None:
    listed = re.findall(r"^\| `([A-Z0-9_]+)` \|", read_page(PAGE), flags=re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in FIELDS)


def test_every_secret_is_named() -> None:
    named = set(re.findall(r"`([A-Z0-9_]+)`", section_of(PAGE, "Secrets in files")))
    secrets = {name.upper() for name, field in FIELDS.items() if "SecretStr" in str(field.annotation)}
    assert secrets <= named
