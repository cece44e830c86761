"""Converts settings into the environment variables of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from ragsvc.settings.settings import Settings


def variables_of(settings: Settings) -> dict[str, str]:
    """Return the environment variables that produce these settings."""
    return {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings.flat().items()
        if value is not None
    }
