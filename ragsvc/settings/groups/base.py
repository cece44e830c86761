"""What the groups of settings share: their sources, types and units."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ragsvc.settings.secret_files import SecretFiles

KIB = 1024
MIB = 1024 * KIB

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
SizeBytes = Annotated[int, Field(ge=1)]


class Group(BaseSettings):
    """A group of related settings, read from the environment; secrets can come from files."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - .env files are not supported
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - SecretFiles replaces this source
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings; earlier ones take precedence."""
        return init_settings, env_settings, SecretFiles(settings_cls)


def split_list(listed: str) -> frozenset[str]:
    """Return the parts of a comma-separated list, without the blank ones."""
    return frozenset(stripped for part in listed.split(",") if (stripped := part.strip()))
