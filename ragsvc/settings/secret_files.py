"""Secrets that stand in files, as orchestrators mount them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import SecretStr
from pydantic_settings import PydanticBaseSettingsSource

from ragsvc.errors import StartupRefused

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class SecretFiles(PydanticBaseSettingsSource):
    """The settings that are secret: `{NAME}_FILE` is the path of a file that holds what `{NAME}` would be."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the secret of a field, None when it has no file.

        Raises:
            StartupRefused: the file cannot be read or is empty, or the variable is set as well.
        """
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE")
        if not path or SecretStr not in {field.annotation, *get_args(field.annotation)}:
            return None, field_name, False
        if os.environ.get(name):
            raise StartupRefused(f"{name} and {name}_FILE are both set: which of them holds?")
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StartupRefused(f"{name}_FILE: {path} cannot be read: {error}") from error
        if not secret:
            raise StartupRefused(f"{name}_FILE: {path} is empty")
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the secrets that have files."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: secret for name, secret in found.items() if secret is not None}
