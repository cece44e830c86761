"""Secrets read from files, as mounted by orchestrators."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import SecretStr
from pydantic_settings import PydanticBaseSettingsSource

from ragsvc.errors.base import StartupRefused

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class SecretFiles(PydanticBaseSettingsSource):
    """Source of the secret settings: `{NAME}_FILE` is the path of a file with the value of `{NAME}`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the secret of a field, or None if it has no file.

        Raises:
            StartupRefused: the file is unreadable or empty, or the variable is also set.
        """
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE")
        if not path or SecretStr not in {field.annotation, *get_args(field.annotation)}:
            return None, field_name, False
        if os.environ.get(name):
            raise StartupRefused(f"{name} and {name}_FILE are both set: unset one of them")
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StartupRefused(f"{name}_FILE: {path} cannot be read: {error}") from error
        if not secret:
            raise StartupRefused(f"{name}_FILE: {path} is empty")
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the secrets that are set through files."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: secret for name, secret in found.items() if secret is not None}
